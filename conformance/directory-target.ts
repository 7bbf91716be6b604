/** The target that is a directory of this machine, whatever is mounted there. */
import { statSync } from 'node:fs';
import { UserError } from '../src/core/index.ts';
import { SysError, MAP_SHARED, O_CREAT, O_RDWR, O_TMPFILE, PROT_READ, PROT_WRITE } from '../src/sys/index.ts';
import type { Need } from './behaviour.ts';
import { F_SETLK, F_WRLCK, S_IFCHR, X_OK } from './constants.ts';
import { aclValue } from './acl.ts';
import { KernelFace } from './kernel-face.ts';
import type { Session, Target } from './run.ts';
import { whyNoUsers } from './users.ts';

// statfs(2): f_flags.
const ST_RDONLY = 1;

const ST_NOATIME = 0x400;

/** A directory as a target. */
export function directoryTarget(folder: string): Target {
  return {
    name: folder,
    open: () => {
      const found = statSync(folder, { throwIfNoEntry: false });
      if (found === undefined) throw new UserError(`${folder}: there is no such directory.`);
      if (!found.isDirectory()) throw new UserError(`${folder}: this is not a directory.`);
      const face = new KernelFace(folder);
      if ((face.statfs(folder).flags & ST_RDONLY) !== 0) {
        throw new UserError(`${folder} is mounted read-only: nothing can be tested there.`);
      }
      return session(face, folder);
    },
  };
}

function session(face: KernelFace, folder: string): Session {
  const missing = new Map<Need, string>();
  const probe = `${folder}/conformance-probe-${process.pid}`;
  const lack = (need: Need, why: string | undefined): void => {
    if (why !== undefined) missing.set(need, why);
  };
  const before = face.umask(0);
  try {
    makeProbe(face, probe, folder);
    lack('users', whyNoUsers() ?? whyUnreachable(face, folder));
    lack(
      'owners',
      whyNot('chown', () => face.chown(probe, 1, 1)),
    );
    lack(
      'xattr',
      whyNot('setxattr user.*', () => face.setxattr(probe, 'user.probe', '1')),
    );
    lack(
      'acl',
      whyNot('ACLs', () => face.setxattr(probe, 'system.posix_acl_access', aclValue([]))),
    );
    lack(
      'locks',
      whyNot('fcntl locks', () => lockOnce(face, probe)),
    );
    lack(
      'mmap',
      whyNot('mmap(MAP_SHARED)', () => mapOnce(face, probe)),
    );
    lack(
      'tmpfile',
      whyNot('O_TMPFILE', () => face.close(face.open(folder, O_TMPFILE | O_RDWR, 0o600))),
    );
    lack('devices', whyNoDevices(face, probe));
    lack(
      'btime',
      face.lstat(probe).btime === undefined ? 'the file system does not say when files were made' : undefined,
    );
    lack('atime', (face.statfs(folder).flags & ST_NOATIME) !== 0 ? 'mounted with noatime' : undefined);
  } finally {
    face.closeAll();
    if (face.exists(probe)) face.unlink(probe);
  }
  const close = (): void => {
    face.umask(before);
    face.closeAll();
  };
  return { face, folder, missing, close };
}

function makeProbe(face: KernelFace, probe: string, folder: string): void {
  try {
    face.file(probe, 'probe');
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    throw new UserError(`${folder}: no file can be made there (${error.code}).`, { cause: error });
  }
}

function whyNot(what: string, call: () => void): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return `${what}: ${error.code}`;
  }
}

function whyUnreachable(face: KernelFace, folder: string): string | undefined {
  const why = whyNot('', () => face.as({ uid: 5009, gid: 5009 }, () => face.access(folder, X_OK)));
  return why === undefined ? undefined : `other users cannot get into ${folder}`;
}

function lockOnce(face: KernelFace, path: string): void {
  face.lock(face.open(path, O_RDWR | O_CREAT), F_SETLK, { type: F_WRLCK });
}

function mapOnce(face: KernelFace, path: string): void {
  face.mmap(face.open(path, O_RDWR), 4096, PROT_READ | PROT_WRITE, MAP_SHARED).unmap();
}

function whyNoDevices(face: KernelFace, probe: string): string | undefined {
  const path = `${probe}-device`;
  const why = whyNot('mknod', () => face.mknod(path, S_IFCHR | 0o600, 1, 3));
  if (why === undefined) face.unlink(path);
  return why;
}
