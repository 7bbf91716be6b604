import { AT_FDCWD, close, coldString, O_CLOEXEC, O_PATH, O_WRONLY, openat } from '../../sys/index.ts';

/** Where this thread tells SELinux the label of what it creates next (proc_pid_attr(5)); -1 on a host without it. */
export function labelFd(): number {
  const selinux = openat(AT_FDCWD, coldString('/sys/fs/selinux/policy'), O_PATH | O_CLOEXEC, 0);
  if (selinux < 0) return -1;
  close(selinux);
  return Math.max(-1, openat(AT_FDCWD, coldString('/proc/thread-self/attr/fscreate'), O_WRONLY | O_CLOEXEC, 0));
}
