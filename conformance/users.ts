/** Other users, by the credentials that this thread's file-system calls are made with. */
import { effectiveCapabilities } from '../src/sys/index.ts';
import type { User } from './face.ts';
import { type CallMemory, libc, SYS_SETGROUPS, syscall } from './libc.ts';

const PR_GET_SECUREBITS = 27;
const PR_SET_SECUREBITS = 28;
const SECBIT_NO_SETUID_FIXUP = 4;

const setfsuid = libc('setfsuid', 2);
const setfsgid = libc('setfsgid', 2);
const prctl = libc('prctl', 5);

// linux/capability.h: what root has that other users have not, as far as files go.
const FILE_CAPABILITIES = [0, 1, 2, 3, 4, 6, 7, 27];

/** Why this thread cannot make calls as other users; undefined where it can. */
export function whyNoUsers(): string | undefined {
  const held = effectiveCapabilities();
  if (process.geteuid?.() !== 0) return 'it takes root to act as several users';
  const missing = FILE_CAPABILITIES.some((bit) => ((held >> BigInt(bit)) & 1n) === 0n);
  return missing ? "root has not all of root's capabilities here" : undefined;
}

function setGroups(memory: CallMemory, groups: readonly number[]): void {
  for (const [i, group] of groups.entries()) memory.view.setUint32(i * 4, group, true);
  syscall('setgroups', SYS_SETGROUPS, groups.length, memory.small);
}

/**
 * Makes `body` a user's: setfsuid(2) takes the capabilities that concern files from this thread, and gives them back.
 * By system calls of this thread alone: libc's setgroups would change every thread.
 */
export function asUser<T>(user: User, memory: CallMemory, body: () => T): T {
  const bits = prctl(PR_GET_SECUREBITS);
  // A daemon's thread keeps its capabilities when it changes its identity (src/sys allowActingAs).
  if ((bits & SECBIT_NO_SETUID_FIXUP) !== 0) prctl(PR_SET_SECUREBITS, bits & ~SECBIT_NO_SETUID_FIXUP);
  setGroups(memory, user.groups ?? []);
  setfsgid(user.gid);
  setfsuid(user.uid);
  try {
    return body();
  } finally {
    setfsuid(0);
    setfsgid(0);
    setGroups(memory, []);
    if ((bits & SECBIT_NO_SETUID_FIXUP) !== 0) prctl(PR_SET_SECUREBITS, bits);
  }
}
