/** What kind of file systems are shared: some are this machine's own, others hear of every user and every close(2). */
import { readFileSync, realpathSync } from 'node:fs';

interface Kind {
  /** As /proc/self/mountinfo has it. */
  readonly type: string;
  /** f_type of statfs(2) (linux/magic.h). */
  readonly magic: number;
  /** A store through a shared mapping sets a file's ctime when it makes a clean page dirty (vm_ops->page_mkwrite). */
  readonly stamping: boolean;
}

/**
 * Those of this machine alone. They look at who calls for nothing but the owner of a new file, and close(2) has nothing
 * to report. What an overlay lies on is reached as its mounter.
 */
const LOCAL: readonly Kind[] = [
  { type: 'ext2', magic: 0xef53, stamping: true },
  { type: 'ext3', magic: 0xef53, stamping: true },
  { type: 'ext4', magic: 0xef53, stamping: true },
  { type: 'xfs', magic: 0x5846_5342, stamping: true },
  { type: 'btrfs', magic: 0x9123_683e, stamping: true },
  { type: 'f2fs', magic: 0xf2f5_2010, stamping: false },
  { type: 'bcachefs', magic: 0xca45_1a4e, stamping: false },
  { type: 'zfs', magic: 0x2fc1_2fc1, stamping: false },
  { type: 'tmpfs', magic: 0x0102_1994, stamping: false },
  { type: 'ramfs', magic: 0x8584_58f6, stamping: false },
  { type: 'overlay', magic: 0x794c_7630, stamping: false },
  { type: 'squashfs', magic: 0x7371_7368, stamping: false },
  { type: 'erofs', magic: 0xe0f5_e1e2, stamping: false },
];

/** Whether a file system is local, by its f_type of statfs(2), unsigned. */
export function isLocal(magic: number): boolean {
  return LOCAL.some((kind) => kind.magic === magic);
}

interface Mount {
  readonly id: number;
  readonly point: string;
  readonly type: string;
}

const unescape = (_: string, digits: string): string => String.fromCharCode(Number.parseInt(digits, 8));

/** proc_pid_mountinfo(5): id, parent, device, root, mount point, options, optional fields, '-', type, source, more. */
export function parseMounts(text: string): Mount[] {
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => {
    const [front, back] = line.split(' - ');
    const fields = front.split(' ');
    const point = fields[4].replace(/\\([0-7]{3})/g, unescape);
    return { id: Number(fields[0]), point, type: back.split(' ')[0] };
  });
}

/** The type of the file system that `fd` is on, then those of the mounts below the directory `path`. */
function typesBelow(fd: number, path: string): string[] {
  const mounts = parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
  const id = Number(/^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]);
  const below = `${realpathSync(path)}/`.replace('//', '/');
  const own = mounts.find((mount) => mount.id === id)?.type ?? 'unknown';
  return [own, ...mounts.filter(({ point }) => point.startsWith(below)).map(({ type }) => type)];
}

/** What holds for all file systems in a shared directory, as far as they are mounted by now. */
export function sharedFileSystems(fd: number, path: string): { local: boolean; stamping: boolean } {
  const kinds = typesBelow(fd, path).map((type) => LOCAL.find((kind) => kind.type === type));
  return {
    local: kinds.every((kind) => kind !== undefined),
    stamping: kinds.every((kind) => kind?.stamping === true),
  };
}
