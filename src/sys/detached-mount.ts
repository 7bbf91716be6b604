import type { Fd } from '../core/index.ts';
import {
  FSCONFIG_CMD_CREATE,
  FSCONFIG_SET_FLAG,
  FSCONFIG_SET_STRING,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  SYS_FSCONFIG,
  SYS_FSMOUNT,
  SYS_FSOPEN,
} from './constants.ts';
import { SysError } from './error.ts';
import { bind, check, I, U } from './ffi.ts';
import { close } from './files.ts';
import { coldString } from './memory.ts';

const libcSyscall = bind('syscall', 6);

/** fsconfig(2): `key` and `value` are addresses, or 0 where the command takes none. */
function configure(context: number, command: number, key: number, value: number, what: string): void {
  const result = check(libcSyscall(SYS_FSCONFIG, I(context), I(command), U(key), U(value), 0n));
  SysError.check(result, 'fsconfig', what);
}

/**
 * A new mount that is attached nowhere (fsopen(2), fsconfig(2), fsmount(2)), without set-id bits, devices and programs.
 * Takes CAP_SYS_ADMIN. A value of '': the parameter is a flag. Throws SysError.
 *
 * @returns a descriptor of its root (O_PATH). The mount lives as long as something in it is open.
 */
export function mountDetached(fileSystem: string, parameters: Readonly<Record<string, string>>): Fd {
  const opened = check(libcSyscall(SYS_FSOPEN, U(coldString(fileSystem)), I(FSOPEN_CLOEXEC), 0n, 0n, 0n));
  const context = SysError.check(opened, 'fsopen', fileSystem);
  try {
    for (const [key, value] of Object.entries(parameters)) {
      if (value === '') configure(context, FSCONFIG_SET_FLAG, coldString(key), 0, key);
      else configure(context, FSCONFIG_SET_STRING, coldString(key), coldString(value, 1), `${key}=${value}`);
    }
    configure(context, FSCONFIG_CMD_CREATE, 0, 0, 'FSCONFIG_CMD_CREATE');
    const attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    const mounted = check(libcSyscall(SYS_FSMOUNT, I(context), I(FSMOUNT_CLOEXEC), I(attributes), 0n, 0n));
    return SysError.check(mounted, 'fsmount', fileSystem) as Fd;
  } finally {
    close(context);
  }
}
