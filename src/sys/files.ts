/**
 * Calls on files, one function a call: numbers and addresses in, a result or a negative errno out.
 * Nothing here allocates once it is compiled. A `path` is the address of a NUL-terminated name.
 * One constant and one small function a call: a call site shared by several functions costs 96 ns instead of 4.
 */
import { O_CLOEXEC, O_NONBLOCK, SYS_OPENAT2 } from './constants.ts';
import { bind, bindWide, check, I, lastError, U, U2 } from './ffi.ts';

const libcOpenat = bind('openat', 4);
/** openat(2). */
export const openat = (dirFd: number, path: number, flags: number, mode: number): number =>
  check(libcOpenat(I(dirFd), U(path), I(flags), I(mode)));

const libcClose = bind('close', 2);
/** close(2). */
export const close = (fd: number): number => check(libcClose(I(fd), 0n));

const libcStatx = bind('statx', 5);
/** statx(2) into a 256-byte `buffer`. */
export const statx = (dirFd: number, path: number, flags: number, mask: number, buffer: number): number =>
  check(libcStatx(I(dirFd), U(path), I(flags), I(mask), U(buffer)));

/**
 * statx(2) of the name at `base` + `offset`: the sum is made here, because a double that is handed to a function that
 * is not inlined is put on the heap first. LOOKUP asks this way.
 */
export const statxName = (
  dirFd: number,
  base: number,
  offset: number,
  flags: number,
  mask: number,
  to: number,
): number => check(libcStatx(I(dirFd), U(base + offset), I(flags), I(mask), U(to)));

const libcFstatfs = bind('fstatfs', 2);
/** fstatfs(2) into a 120-byte `buffer`. */
export const fstatfs = (fd: number, buffer: number): number => check(libcFstatfs(I(fd), U(buffer)));

const libcPreadv = bind('preadv', 4);
/** preadv(2). */
export const preadv = (fd: number, iovecs: number, count: number, offsetLo: number, offsetHi: number): number =>
  check(libcPreadv(I(fd), U(iovecs), I(count), U2(offsetLo, offsetHi)));

const libcPwritev = bind('pwritev', 4);
/** pwritev(2). */
export const pwritev = (fd: number, iovecs: number, count: number, offsetLo: number, offsetHi: number): number =>
  check(libcPwritev(I(fd), U(iovecs), I(count), U2(offsetLo, offsetHi)));

const libcRead = bind('read', 3);
/** read(2). */
export const read = (fd: number, buffer: number, length: number): number =>
  check(libcRead(I(fd), U(buffer), U(length)));

const libcWrite = bind('write', 3);
/** write(2). */
export const write = (fd: number, buffer: number, length: number): number =>
  check(libcWrite(I(fd), U(buffer), U(length)));

const libcReadlinkat = bind('readlinkat', 4);
/** readlinkat(2). */
export const readlinkat = (dirFd: number, path: number, buffer: number, length: number): number =>
  check(libcReadlinkat(I(dirFd), U(path), U(buffer), U(length)));

const libcSymlinkat = bind('symlinkat', 3);
/** symlinkat(2). */
export const symlinkat = (target: number, dirFd: number, path: number): number =>
  check(libcSymlinkat(U(target), I(dirFd), U(path)));

const libcMknodat = bind('mknodat', 4);
/** mknodat(2). */
export const mknodat = (dirFd: number, path: number, mode: number, device: number): number =>
  check(libcMknodat(I(dirFd), U(path), I(mode), U(device)));

const libcMkdirat = bind('mkdirat', 3);
/** mkdirat(2). */
export const mkdirat = (dirFd: number, path: number, mode: number): number =>
  check(libcMkdirat(I(dirFd), U(path), I(mode)));

const libcUnlinkat = bind('unlinkat', 3);
/** unlinkat(2). */
export const unlinkat = (dirFd: number, path: number, flags: number): number =>
  check(libcUnlinkat(I(dirFd), U(path), I(flags)));

const libcRenameat2 = bind('renameat2', 5);
/** renameat2(2). */
export const renameat2 = (
  oldDirFd: number,
  oldPath: number,
  newDirFd: number,
  newPath: number,
  flags: number,
): number => check(libcRenameat2(I(oldDirFd), U(oldPath), I(newDirFd), U(newPath), I(flags)));

const libcLinkat = bind('linkat', 5);
/** linkat(2). */
export const linkat = (oldDirFd: number, oldPath: number, newDirFd: number, newPath: number, flags: number): number =>
  check(libcLinkat(I(oldDirFd), U(oldPath), I(newDirFd), U(newPath), I(flags)));

const libcFchmodat = bind('fchmodat', 4);
/** fchmodat(2). */
export const fchmodat = (dirFd: number, path: number, mode: number): number =>
  check(libcFchmodat(I(dirFd), U(path), I(mode), 0n));

const libcFchownat = bind('fchownat', 5);
/** fchownat(2). */
export const fchownat = (dirFd: number, path: number, uid: number, gid: number, flags: number): number =>
  check(libcFchownat(I(dirFd), U(path), I(uid), I(gid), I(flags)));

const libcUtimensat = bind('utimensat', 4);
/** utimensat(2). */
export const utimensat = (dirFd: number, path: number, times: number, flags: number): number =>
  check(libcUtimensat(I(dirFd), U(path), U(times), I(flags)));

const libcFtruncate = bind('ftruncate', 2);
/** ftruncate(2) to a length of two words. */
export const ftruncate = (fd: number, lo: number, hi: number): number => check(libcFtruncate(I(fd), U2(lo, hi)));

const libcFallocate = bind('fallocate', 4);
/** fallocate(2): offset and length of two words each. */
export const fallocate = (
  fd: number,
  mode: number,
  offsetLo: number,
  offsetHi: number,
  lengthLo: number,
  lengthHi: number,
): number => check(libcFallocate(I(fd), I(mode), U2(offsetLo, offsetHi), U2(lengthLo, lengthHi)));

const libcFsync = bind('fsync', 2);
/** fsync(2). */
export const fsync = (fd: number): number => check(libcFsync(I(fd), 0n));

const libcFdatasync = bind('fdatasync', 2);
/** fdatasync(2). */
export const fdatasync = (fd: number): number => check(libcFdatasync(I(fd), 0n));

const libcSyncfs = bind('syncfs', 2);
/** syncfs(2). */
export const syncfs = (fd: number): number => check(libcSyncfs(I(fd), 0n));

const libcGetdents64 = bind('getdents64', 3);
/** getdents64(2). */
export const getdents64 = (fd: number, buffer: number, length: number): number =>
  check(libcGetdents64(I(fd), U(buffer), U(length)));

const libcNameToHandleAt = bind('name_to_handle_at', 5);
/** name_to_handle_at(2): `handle` is a struct file_handle, `mountId` an int. */
export const nameToHandleAt = (dirFd: number, path: number, handle: number, mountId: number, flags: number): number =>
  check(libcNameToHandleAt(I(dirFd), U(path), U(handle), U(mountId), I(flags)));

const libcOpenByHandleAt = bind('open_by_handle_at', 3);
/** open_by_handle_at(2). */
export const openByHandleAt = (mountFd: number, handle: number, flags: number): number =>
  check(libcOpenByHandleAt(I(mountFd), U(handle), I(flags)));

const libcUmask = bind('umask', 2);
/** umask(2). */
export const umask = (mask: number): number => check(libcUmask(I(mask), 0n));

const libcOpenat2 = bind('syscall', 6);
/** openat2(2): `how` is a struct open_how of 24 bytes. */
export const openat2 = (dirFd: number, path: number, how: number): number =>
  check(libcOpenat2(SYS_OPENAT2, I(dirFd), U(path), U(how), 24n, 0n));

const libcFcntl = bind('fcntl', 3);
/** fcntl(fd, F_DUPFD_CLOEXEC): a second descriptor of the same open file. */
export const duplicate = (fd: number): number => check(libcFcntl(I(fd), 1030n, 0n));

const libcDup3 = bind('dup3', 3);
/** dup3(2): `newFd` becomes a descriptor of the open file of `fd` at once; what it was is closed. */
export const duplicateTo = (fd: number, newFd: number): number => check(libcDup3(I(fd), I(newFd), I(O_CLOEXEC)));

const F_GETFL = 3n;
const F_SETFL = 4n;
/** Makes reads and writes of an open file return at once (O_NONBLOCK), for everybody who shares it. */
export const setNonblocking = (fd: number): number =>
  check(libcFcntl(I(fd), F_SETFL, I(check(libcFcntl(I(fd), F_GETFL, 0n)) | O_NONBLOCK)));

const F_ADD_SEALS = 1033n;
/** Seals a memfd that was made for it: 0 or a negative errno. */
export const addSeals = (fd: number, seals: number): number => check(libcFcntl(I(fd), F_ADD_SEALS, I(seals)));

/** The flags of an open file (fcntl(2), F_GETFL). */
export const statusFlags = (fd: number): number => check(libcFcntl(I(fd), F_GETFL, 0n));

const libcIoctl = bind('ioctl', 3);
/** ioctl(2): `argument` is an address. */
export const ioctl = (fd: number, request: number, argument: number): number =>
  check(libcIoctl(I(fd), I(request), U(argument)));

const libcLseek = bindWide('lseek', 3, 'i64');
const position = new BigInt64Array(1);
const positionWords = new Uint32Array(position.buffer);

/**
 * lseek(2) to an offset of two words. 0 or a negative errno; the new position is in `seekPosition`.
 * Directory positions use all 64 bits (ext4 hashes), so a number could not hold them.
 */
export const lseek = (fd: number, lo: number, hi: number, whence: number): number => {
  position[0] = libcLseek(I(fd), U2(lo, hi), I(whence));
  return positionWords[0] === 0xffffffff && positionWords[1] === 0xffffffff ? lastError() : 0;
};

/** Where the last `lseek` of this thread arrived: low word, high word. */
export const seekPosition = positionWords;

/** preadv2(2) and pwritev2(2): so many iovecs, an offset of two words, RWF_ flags. */
type Vectored = (
  fd: number,
  iovecs: number,
  count: number,
  offsetLo: number,
  offsetHi: number,
  flags: number,
) => number;

const libcPwritev2 = bind('pwritev2', 5);
/** pwritev2(2). */
export const pwritev2: Vectored = (fd, iovecs, count, offsetLo, offsetHi, flags) =>
  check(libcPwritev2(I(fd), U(iovecs), I(count), U2(offsetLo, offsetHi), I(flags)));

const libcGetxattr = bind('getxattr', 4);
/** getxattr(2). */
export const getxattr = (path: number, name: number, value: number, size: number): number =>
  check(libcGetxattr(U(path), U(name), U(value), U(size)));

/** getxattr(2) of the name at `names` + `nameAt` to `values` + `valueAt`: summed up here, as in `statxName`. */
export const getxattrName = (
  path: number,
  names: number,
  nameAt: number,
  values: number,
  valueAt: number,
  size: number,
): number => check(libcGetxattr(U(path), U(names + nameAt), U(values + valueAt), U(size)));

const libcSetxattr = bind('setxattr', 5);
/** setxattr(2). */
export const setxattr = (path: number, name: number, value: number, size: number, flags: number): number =>
  check(libcSetxattr(U(path), U(name), U(value), U(size), I(flags)));

const libcListxattr = bind('listxattr', 3);
/** listxattr(2). */
export const listxattr = (path: number, list: number, size: number): number =>
  check(libcListxattr(U(path), U(list), U(size)));

const libcRemovexattr = bind('removexattr', 2);
/** removexattr(2). */
export const removexattr = (path: number, name: number): number => check(libcRemovexattr(U(path), U(name)));

const libcCopyFileRange = bind('copy_file_range', 6);
/** copy_file_range(2): the offsets are the addresses of two off_t. */
export const copyFileRange = (fdIn: number, offIn: number, fdOut: number, offOut: number, length: number): number =>
  check(libcCopyFileRange(I(fdIn), U(offIn), I(fdOut), U(offOut), U(length), 0n));

const libcPreadv2 = bind('preadv2', 5);
/** preadv2(2). With RWF_NOWAIT: -EAGAIN, or less than asked for, where it would have to wait for the disk. */
export const preadv2: Vectored = (fd, iovecs, count, offsetLo, offsetHi, flags) =>
  check(libcPreadv2(I(fd), U(iovecs), I(count), U2(offsetLo, offsetHi), I(flags)));
