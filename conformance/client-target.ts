/** The target that is a share of any virtio-fs daemon, opened by its socket. */
import { type CacheMode, finished, type MountedVolume, openVolumeSync } from '../src/client/index.ts';
import { O_RDWR } from '../src/sys/index.ts';
import { type Need, probe } from './behaviour.ts';
import { aclValue } from './acl.ts';
import { ClientFace } from './client-face.ts';
import { ClientProcess } from './client-process.ts';
import { F_GETLK, F_SETLK, F_UNLCK, F_WRLCK, S_IFCHR } from './constants.ts';
import type { Target } from './run.ts';
import { NotApplicable } from './verdicts.ts';

export interface ClientTargetOptions {
  readonly cache?: CacheMode;
  readonly writeback?: boolean;
  /** Bytes of the daemon's window that all files are mapped through, such as 32M. */
  readonly dax?: string;
  /** Another socket of the same share, for a second process: it holds locks, too. */
  readonly secondSocketPath?: string;
}

const PROBE = '/conformance-probe';
const USER = { uid: 5009, gid: 5009 };

/**
 * A share as a target. Calls are made as root of the guest; what the daemon may not do is not applicable. The share's
 * root is written to, in a folder that goes again.
 */
export function clientTarget(socketPath: string, options: ClientTargetOptions = {}): Target {
  const { cache = 'auto', writeback = false, dax } = options;
  const modes = [
    `cache ${cache}`,
    ...(writeback ? ['write-back'] : []),
    ...(dax === undefined ? [] : [`window ${dax}`]),
  ];
  return {
    name: `${socketPath} by the client, ${modes.join(', ')}`,
    open: () => {
      const volumes: MountedVolume[] = [];
      const connect = (path: string): MountedVolume => {
        const caller = { uid: 0, gid: 0, groups: [], umask: 0 };
        const volume = openVolumeSync(path, { ...caller, cache, writeback, dax, daxFiles: 'always' });
        volumes.push(volume);
        return volume;
      };
      const close = (): void => {
        for (const volume of volumes.splice(0)) finished(volume.close(), () => volume.idle());
      };
      try {
        const second = secondOf(options.secondSocketPath, connect);
        const face: ClientFace = new ClientFace(connect(socketPath), () => second().at(face.base));
        const missing = missingOf(face);
        if (options.secondSocketPath !== undefined && !excludes(face, second())) {
          missing.set('locks', 'the daemon leaves locks to each guest');
        }
        return { face, folder: '/', missing, close };
      } catch (error) {
        close();
        throw error;
      }
    },
  };
}

/** A second process is a second guest: what it locks the daemon keeps from this one, where it keeps locks at all. */
function secondOf(path: string | undefined, connect: (path: string) => MountedVolume): () => ClientProcess {
  let started: ClientProcess | undefined;
  return () => {
    if (path === undefined) throw new NotApplicable('a second process takes a second socket of the share');
    started ??= new ClientProcess(connect(path));
    return started;
  };
}

/** Whether the locks of one guest keep another one away. */
function excludes(face: ClientFace, second: ClientProcess): boolean {
  const other = second.at('/');
  face.file(PROBE);
  try {
    face.lock(face.open(PROBE, O_RDWR), F_SETLK, { type: F_WRLCK });
    return other.call('lock', other.call('open', PROBE, O_RDWR), F_GETLK, { type: F_WRLCK }).type !== F_UNLCK;
  } finally {
    other.at('/');
    face.closeAll();
    face.unlink(PROBE);
  }
}

/** What the client, the daemon or its host lack. */
function missingOf(face: ClientFace): Map<Need, string> {
  const missing = new Map<Need, string>([
    ['mmap', 'the client maps no files'],
    ['tmpfile', 'the client makes no files without a name'],
  ]);
  face.file(PROBE, 'probe');
  try {
    probe(missing, 'owners', 'SETATTR of the owner', () => face.chown(PROBE, 1, 1));
    probe(missing, 'xattr', 'SETXATTR user.*', () => face.setxattr(PROBE, 'user.probe', '1'));
    probe(missing, 'acl', 'ACLs', () => face.setxattr(PROBE, 'system.posix_acl_access', aclValue([])));
    probe(missing, 'locks', 'SETLK', () => face.lock(face.open(PROBE, O_RDWR), F_SETLK, { type: F_WRLCK }));
    probe(missing, 'devices', 'MKNOD of a device', () => {
      face.mknod(`${PROBE}-device`, S_IFCHR | 0o600, 1, 3);
      face.unlink(`${PROBE}-device`);
    });
    probe(missing, 'users', 'CREATE of another user', () => {
      face.mkdir(`${PROBE}-folder`);
      face.chmod(`${PROBE}-folder`, 0o777);
      face.as(USER, () => face.file(`${PROBE}-folder/f`, 'probe'));
      if (face.lstat(`${PROBE}-folder/f`).uid !== USER.uid)
        missing.set('users', 'the daemon makes all files as itself');
    });
    if (face.lstat(PROBE).btime === undefined) missing.set('btime', 'the client does not ask when files were made');
  } finally {
    face.closeAll();
    face.unlink(PROBE);
    if (face.exists(`${PROBE}-folder`)) face.removeTree(`${PROBE}-folder`);
  }
  return missing;
}
