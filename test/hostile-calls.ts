/** Calls that make a client send every opcode that it has, and both ways of making them. */
import { openTransport, openVolume, mount, type ConnectOptions } from '../src/client/connect.ts';
import { finished, promised, type OpenDirectory, type OpenFile, type Task, type Volume } from '../src/client/index.ts';
import { O_CREAT, O_RDONLY, O_RDWR } from '../src/sys/index.ts';

/** How a caller waits. */
export interface Way {
  readonly name: string;
  readonly open: (socketPath: string, options: ConnectOptions) => Promise<Volume>;
  readonly wait: <T>(volume: Volume, task: Task<T>) => Promise<T>;
}

export const WAYS: readonly Way[] = [
  {
    name: 'awaiting',
    open: (socketPath, options) => promised(openVolume(socketPath, options)),
    wait: (_volume, task) => promised(task),
  },
  {
    name: 'blocking',
    open: async (socketPath, options) => {
      const transport = openTransport(socketPath, options);
      try {
        return finished(mount(transport, options), () => transport.idle());
      } catch (error) {
        transport.close();
        throw error;
      }
    },
    wait: async (volume, task) => finished(task, () => volume.idle()),
  },
];

/** Listings never end where the daemon does not want them to. */
const MOST_LISTINGS = 10;
const BYTES = 1000;
const SEEK_DATA = 3;

function* withFile<T>(volume: Volume, flags: number, use: (file: OpenFile) => Task<T>): Task<T> {
  const file = yield* volume.open('/file', flags);
  try {
    return yield* use(file);
  } finally {
    yield* file.close();
  }
}

function* withDirectory<T>(volume: Volume, use: (directory: OpenDirectory) => Task<T>): Task<T> {
  const directory = yield* volume.openDirectory('/directory');
  try {
    return yield* use(directory);
  } finally {
    yield* directory.close();
  }
}

/** The names of a directory. */
export function* list(volume: Volume): Task<string[]> {
  return yield* withDirectory(volume, function* (directory) {
    const names: string[] = [];
    let position = 0n;
    for (let i = 0; i < MOST_LISTINGS; i += 1) {
      const entries = yield* directory.read(position);
      if (entries.length === 0) break;
      names.push(...entries.map(({ name }) => Buffer.from(name).toString('latin1')));
      position = entries[entries.length - 1].next;
    }
    return names;
  });
}

const lock = { type: 1, start: 0n, end: 100n, pid: 1 };

export const CALLS = {
  stat: (volume) => volume.stat('/file', true),
  statLink: (volume) => volume.stat('/link', true),
  statfs: (volume) => volume.statfs('/'),
  access: (volume) => volume.access('/directory', 7),
  readlink: (volume) => volume.readlink('/link'),
  realpath: (volume) => volume.realpath('/directory/../directory/link'),
  mkdir: (volume) => volume.mkdir('/new', 0o755),
  mknod: (volume) => volume.mknod('/new', 0o010644, 0),
  symlink: (volume) => volume.symlink('file', '/new'),
  link: (volume) => volume.link('/file', '/new'),
  unlink: (volume) => volume.unlink('/file'),
  rmdir: (volume) => volume.rmdir('/directory'),
  rename: (volume) => volume.rename('/file', '/new'),
  exchange: (volume) => volume.rename('/file', '/directory', 2),
  chmod: (volume) => volume.change('/file', { mode: 0o600 }, true),
  truncate: (volume) => volume.change('/file', { size: 10 }, true),
  setXattr: (volume) => volume.setXattr('/file', 'user.x', new Uint8Array(10), 0, true),
  getXattr: (volume) => volume.getXattr('/file', 'user.x', true),
  listXattrs: (volume) => volume.listXattrs('/file', true),
  removeXattr: (volume) => volume.removeXattr('/file', 'user.x', true),
  list,
  syncDirectory: (volume) => withDirectory(volume, (directory) => directory.sync()),
  create: function* (volume) {
    const file = yield* volume.open('/new', O_CREAT | O_RDWR, 0o644);
    yield* file.close();
  },
  read: (volume) => withFile(volume, O_RDONLY, (file) => file.read(new Uint8Array(BYTES), 3)),
  write: (volume) => withFile(volume, O_RDWR, (file) => file.write(new Uint8Array(BYTES), 3)),
  sync: (volume) => withFile(volume, O_RDWR, (file) => file.sync(false)),
  allocate: (volume) => withFile(volume, O_RDWR, (file) => file.allocate(0, 0, BYTES)),
  seek: (volume) => withFile(volume, O_RDONLY, (file) => file.seek(0, SEEK_DATA)),
  copy: (volume) => withFile(volume, O_RDWR, (file) => file.copyTo(file, 0, BYTES, BYTES)),
  getLock: (volume) => withFile(volume, O_RDWR, (file) => file.getLock(lock)),
  setLock: (volume) => withFile(volume, O_RDWR, (file) => file.setLock(lock, false)),
  awaitLock: (volume) => withFile(volume, O_RDWR, (file) => file.setLock(lock, true)),
  syncAll: (volume) => volume.syncAll(),
} as const satisfies Record<string, (volume: Volume) => Task<unknown>>;

export type CallName = keyof typeof CALLS;
