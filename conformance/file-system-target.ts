/** The target that is a file system's own code, asked in this process. */
import type { FileSystemModule, Services } from '../src/fs/file-system.ts';
import { O_RDWR, O_TMPFILE } from '../src/sys/index.ts';
import { type Need, probe } from './behaviour.ts';
import { S_IFCHR } from './constants.ts';
import { FileSystemFace } from './file-system-face.ts';
import { FuseClient } from './fuse-client.ts';
import type { Session, Target } from './run.ts';

const KERNEL = 'the kernel answers this: it needs a mounted file system';
const KERNELS: readonly Need[] = ['kernel', 'users', 'acl', 'mmap', 'locks'];
const PROBE = '/conformance-probe';

/** Nobody else waits for anything, and what is wrong is seen in the behaviours. */
const SERVICES: Services = { warn: () => undefined, released: () => undefined };

/**
 * A file system as a target: its handlers are called as the server calls them, by a client that walks paths and keeps
 * counts and handles. What a kernel would answer is not applicable. The file system's root is written to, in a folder
 * that goes again.
 *
 * @param options for `openExport` of the module.
 */
export function fileSystemTarget(module: FileSystemModule, options: unknown, name = 'in process'): Target {
  return {
    name,
    open: () => {
      const umask = process.umask();
      const exported = module.openExport(options);
      const fileSystem = module.openWorker(exported, module.openSession(exported), SERVICES);
      const face = new FileSystemFace(new FuseClient(fileSystem));
      const close = (): void => {
        face.closeAll();
        fileSystem.reset();
        module.closeExport(exported);
        process.umask(umask);
      };
      return session(face, close);
    },
  };
}

function session(face: FileSystemFace, close: () => void): Session {
  const missing = new Map<Need, string>(KERNELS.map((need) => [need, KERNEL]));
  face.file(PROBE, 'probe');
  probe(missing, 'owners', 'SETATTR of the owner', () => face.chown(PROBE, 1, 1));
  probe(missing, 'xattr', 'SETXATTR user.*', () => face.setxattr(PROBE, 'user.probe', '1'));
  probe(missing, 'tmpfile', 'TMPFILE', () => face.close(face.open('/', O_TMPFILE | O_RDWR, 0o600)));
  if (face.lstat(PROBE).btime === undefined) missing.set('btime', 'STATX gives no time of birth');
  face.unlink(PROBE);
  probe(missing, 'devices', 'MKNOD of a device', () => {
    face.mknod(PROBE, S_IFCHR | 0o600, 1, 3);
    face.unlink(PROBE);
  });
  return { face, folder: '/', missing, close };
}
