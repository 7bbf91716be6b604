/** Who this thread is on the host: file-system uid and gid, capabilities, limits. All per thread, but the limits. */
import {
  CAP_FSETID,
  CAP_SETGID,
  CAP_SETUID,
  CLONE_FS,
  PR_GET_SECUREBITS,
  PR_SET_SECUREBITS,
  RLIMIT_NOFILE,
  SECBIT_NO_SETUID_FIXUP,
  SYS_SETGROUPS,
} from './constants.ts';
import { bind, check, I, U } from './ffi.ts';
import { Arena } from './memory.ts';

const libcSetfsuid = bind('setfsuid', 2);
const libcSetfsgid = bind('setfsgid', 2);
const libcPrctl = bind('prctl', 5);
const libcCapget = bind('capget', 2);
const libcPrlimit = bind('prlimit', 4);

const arena = new Arena(4096);
const headerAt = arena.reserve(8);
const dataAt = arena.reserve(24);
const limitAt = arena.reserve(16);
const LINUX_CAPABILITY_VERSION_3 = 0x20080522;

/** The effective capabilities of this thread, as a bit set. */
export function effectiveCapabilities(): bigint {
  arena.view.setUint32(headerAt, LINUX_CAPABILITY_VERSION_3, true);
  arena.view.setUint32(headerAt + 4, 0, true);
  if (check(libcCapget(U(arena.address + headerAt), U(arena.address + dataAt))) < 0) return 0n;
  return BigInt(arena.view.getUint32(dataAt, true)) | (BigInt(arena.view.getUint32(dataAt + 12, true)) << 32n);
}

/** Whether this thread has a capability (CAP_*). */
export function hasCapability(capability: number): boolean {
  return ((effectiveCapabilities() >> BigInt(capability)) & 1n) === 1n;
}

/**
 * Makes this thread fit for `actAs`: its capabilities stay when its file-system uid changes (securebits(7),
 * NO_SETUID_FIXUP), so new files get the caller's owner while access goes on as before: the guest has checked it.
 * False when the process may not change its identity: files are then created as the user who runs it.
 */
export function allowActingAs(): boolean {
  if (!hasCapability(CAP_SETUID) || !hasCapability(CAP_SETGID)) return false;
  const bits = check(libcPrctl(I(PR_GET_SECUREBITS), 0n, 0n, 0n, 0n));
  if (bits < 0) return false;
  return check(libcPrctl(I(PR_SET_SECUREBITS), I(bits | SECBIT_NO_SETUID_FIXUP), 0n, 0n, 0n)) === 0;
}

/** An id that no user has: asks for the current one. */
const NOBODY = I(-1);

/**
 * setfsuid(2) and setfsgid(2): the owner of what this thread creates from now on. False when the kernel did not take
 * the ids, as those without a mapping in the daemon's user namespace.
 */
export function actAs(uid: number, gid: number): boolean {
  libcSetfsgid(I(gid), 0n);
  libcSetfsuid(I(uid), 0n);
  // Neither call reports a failure.
  return libcSetfsuid(NOBODY, 0n) === (uid | 0) && libcSetfsgid(NOBODY, 0n) === (gid | 0);
}

const libcSyscall = bind('syscall', 3);
/** setgroups(2) of this thread: `count` gid_t at `list`. 0 or a negative errno. */
export const setGroups = (list: number, count: number): number => check(libcSyscall(SYS_SETGROUPS, I(count), U(list)));

const libcUnshare = bind('unshare', 2);
/** unshare(CLONE_FS): gives this thread a umask (and a working directory) of its own. 0 or a negative errno. */
export const unshareUmask = (): number => check(libcUnshare(I(CLONE_FS), 0n));

const libcCapset = bind('capset', 2);
/**
 * Puts CAP_FSETID into this thread's effective capabilities, or takes it out. Without it the kernel clears set-id bits
 * when a file is written to, truncated, or given a group that the thread is not in. 0 or a negative errno.
 */
export function useFsetid(on: boolean): number {
  const { view } = arena;
  view.setUint32(headerAt, LINUX_CAPABILITY_VERSION_3, true);
  view.setUint32(headerAt + 4, 0, true);
  const result = check(libcCapget(U(arena.address + headerAt), U(arena.address + dataAt)));
  if (result < 0) return result;
  const others = view.getInt32(dataAt, true) & ~(1 << CAP_FSETID);
  view.setInt32(dataAt, on ? others | (1 << CAP_FSETID) : others, true);
  return check(libcCapset(U(arena.address + headerAt), U(arena.address + dataAt)));
}

/** RLIMIT_NOFILE of the process: how many descriptors it may have, and how far it may raise that. */
export function descriptorLimit(): { soft: number; hard: number } {
  check(libcPrlimit(0n, I(RLIMIT_NOFILE), 0n, U(arena.address + limitAt)));
  const read = (at: number): number => Number(arena.view.getBigUint64(at, true));
  return { soft: read(limitAt), hard: read(limitAt + 8) };
}

/** Sets RLIMIT_NOFILE, soft and hard. 0 or a negative errno. */
export function setDescriptorLimit(soft: number, hard: number): number {
  arena.view.setBigUint64(limitAt, BigInt(soft), true);
  arena.view.setBigUint64(limitAt + 8, BigInt(hard), true);
  return check(libcPrlimit(0n, I(RLIMIT_NOFILE), U(arena.address + limitAt), 0n));
}
