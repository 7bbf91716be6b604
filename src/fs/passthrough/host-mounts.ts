/** What kind of file systems are shared: some have work to do at close(2), some do not. */
import { readFileSync, realpathSync } from 'node:fs';

/** close(2) has nothing to report on these, and no server wants to hear of it. */
const LOCAL = new Set('ext2 ext3 ext4 xfs btrfs f2fs bcachefs zfs tmpfs ramfs overlay squashfs erofs'.split(' '));
/** A store through a shared mapping sets a file's ctime when it makes a clean page dirty (vm_ops->page_mkwrite). */
const STAMPING = new Set('ext2 ext3 ext4 xfs btrfs'.split(' '));

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
  const types = typesBelow(fd, path);
  const all = (set: ReadonlySet<string>): boolean => types.every((type) => set.has(type));
  return { local: all(LOCAL), stamping: all(STAMPING) };
}
