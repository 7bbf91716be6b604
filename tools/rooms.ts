/** The house: which rooms there are, and who may import whom. docs/ARCHITECTURE.md says why. */

export interface Room {
  /** Rooms that this one may import. The tsconfig.json of the room references the same ones. */
  readonly imports: readonly string[];
  /** npm packages that it may import. */
  readonly packages?: readonly string[];
  /** No Node, no I/O: the room also runs in a browser. */
  readonly pure?: boolean;
  /** The file through which others come in; a room without one is imported by none. */
  readonly door?: string;
  /** Looks behind doors: it measures or tests what is there. */
  readonly inspects?: boolean;
  /** Files that are started, not imported. */
  readonly starts?: readonly string[];
}

const PURE = ['src/core', 'src/wire', 'src/memory', 'src/fuse'];
const BELOW_SERVER = ['src/core', 'src/sys', 'src/wire', 'src/memory', 'src/fuse', 'src/virtio', 'src/vhost', 'src/fs'];

const PRODUCT: Readonly<Record<string, Room>> = {
  'src/core': { imports: [], pure: true, door: 'index.ts' },
  'src/sys': { imports: ['src/core'], door: 'index.ts' },
  'src/wire': { imports: ['src/core'], pure: true, door: 'index.ts' },
  'src/memory': { imports: ['src/core'], pure: true, door: 'index.ts' },
  'src/fuse': { imports: ['src/core', 'src/wire'], pure: true, door: 'index.ts' },
  'src/virtio': { imports: ['src/core', 'src/wire', 'src/memory'], pure: true, door: 'index.ts' },
  'src/vhost': { imports: ['src/core', 'src/sys', 'src/wire', 'src/memory', 'src/virtio'], door: 'index.ts' },
  'src/fs': { imports: PURE, pure: true, door: 'file-system.ts' },
  'src/fs/passthrough': { imports: [...PURE, 'src/fs', 'src/sys'], door: 'index.ts' },
  'src/coherence': { imports: ['src/core', 'src/sys', 'src/fuse'], door: 'index.ts' },
  'src/server': {
    imports: [...BELOW_SERVER, 'src/fs/passthrough', 'src/coherence'],
    door: 'index.ts',
    starts: ['session-worker.ts', 'queue-worker.ts', 'pool-worker.ts', 'lens-worker.ts', 'guard-worker.ts'],
  },
  'src/client': {
    imports: [...BELOW_SERVER.filter((room) => room !== 'src/fs'), 'src/coherence'],
    door: 'index.ts',
    starts: ['window/window-worker.ts'],
  },
  lab: { imports: [], door: 'index.ts' },
  conformance: {
    imports: ['src/core', 'src/sys', 'src/fuse', 'src/fs', 'src/client'],
    door: 'index.ts',
    starts: ['second-worker.ts'],
  },
  bench: {
    imports: [...BELOW_SERVER, 'src/fs/passthrough', 'src/coherence', 'src/server', 'src/client', 'lab', 'conformance'],
    packages: ['mitata'],
    door: 'index.ts',
    inspects: true,
    starts: ['suites/smallfile-guest.ts'],
  },
  'src/cli': {
    imports: [
      'src/core',
      'src/sys',
      'src/fuse',
      'src/virtio',
      'src/vhost',
      'src/fs',
      'src/fs/passthrough',
      'src/coherence',
      'src/server',
      'src/client',
      'lab',
      'conformance',
      'bench',
    ],
    packages: ['commander', 'picocolors'],
    starts: ['main.ts'],
  },
};

/** Every room by its folder. What is in a folder inside a room belongs to the innermost one. */
export const ROOMS: Readonly<Record<string, Room>> = {
  ...PRODUCT,
  spec: { imports: [], starts: ['make.ts'], door: 'spec.ts' },
  tools: { imports: [], packages: ['oxc-parser'], starts: ['tidy.ts', 'test.ts'] },
  test: { imports: [...Object.keys(PRODUCT), 'spec', 'tools'], inspects: true },
};

/** The room of a file, by its path from the root. */
export function roomOf(path: string): string | undefined {
  const folders = path.split('/').slice(0, -1);
  for (let depth = folders.length; depth > 0; depth -= 1) {
    const name = folders.slice(0, depth).join('/');
    if (name in ROOMS) return name;
  }
  return undefined;
}
