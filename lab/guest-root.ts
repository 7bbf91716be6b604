import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join, relative } from 'node:path';
import { cpio, type CpioEntry } from './cpio.ts';
import { initScript } from './guest-init.ts';

/** What a guest's first filesystem holds. */
export interface GuestRootOptions {
  /** Host path of a statically linked BusyBox for x86-64. */
  readonly busybox: string;
  /** As in boot(), default 3. */
  readonly lanes?: number;
  /** Host path of a tree of more programs, from fetchTools(). */
  readonly tools?: string;
  /** Host paths of modules for its kernel to load first, in their order. */
  readonly modules?: readonly string[];
  /** More files; they win over the others. */
  readonly files?: readonly CpioEntry[];
}

/** How many commands can run in a guest at once unless something else is asked for. */
export const DEFAULT_LANES = 3;

const FOLDERS = [
  ...['usr', 'usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib/modules', 'usr/lib64'],
  ...['dev', 'etc', 'mnt', 'mnt/share', 'proc', 'root', 'run', 'sys', 'tmp', 'var'],
];

const PASSWD =
  'root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n';
const GROUP = 'root:x:0:\nguest:x:1000:\nnogroup:x:65534:\n';

function text(path: string, content: string, mode = 0o644): CpioEntry {
  return { kind: 'file', path, mode, bytes: new TextEncoder().encode(content) };
}

/** The names that a BusyBox answers to; none when it cannot run here (the guest asks it itself then). */
function applets(busybox: string): string[] {
  try {
    return execFileSync(busybox, ['--list'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      .trim()
      .split('\n');
  } catch {
    return [];
  }
}

/** The files of a host folder. */
export function* treeEntries(tree: string): Generator<CpioEntry> {
  for (const entry of readdirSync(tree, { recursive: true, withFileTypes: true })) {
    const host = join(entry.parentPath, entry.name);
    const path = relative(tree, host);
    if (entry.isDirectory()) yield { kind: 'folder', path };
    else if (entry.isSymbolicLink()) yield { kind: 'symlink', path, target: readlinkSync(host) };
    else if (entry.isFile())
      yield { kind: 'file', path, mode: lstatSync(host).mode & 0o7777, bytes: readFileSync(host) };
  }
}

/** The files of a guest's root: BusyBox under all its names, process 1, and what the options add. */
export function guestRoot(options: GuestRootOptions): CpioEntry[] {
  const entries = new Map<string, CpioEntry>();
  const add = (entry: CpioEntry): void => {
    // A name that is there keeps its place, before what is in it; /bin of an unmerged tree stays a link to /usr/bin.
    if (entry.kind !== 'folder' || !entries.has(entry.path)) entries.set(entry.path, entry);
  };
  for (const path of FOLDERS) add({ kind: 'folder', path });
  for (const path of ['bin', 'sbin', 'lib', 'lib64']) add({ kind: 'symlink', path, target: `usr/${path}` });
  // Without it the kernel starts process 1 with no descriptors at all.
  add({ kind: 'character device', path: 'dev/console', major: 5, minor: 1 });
  add(text('etc/passwd', PASSWD));
  add(text('etc/group', GROUP));
  add({ kind: 'file', path: 'usr/bin/busybox', mode: 0o755, bytes: readFileSync(options.busybox) });
  for (const name of applets(options.busybox)) {
    if (name !== 'busybox') add({ kind: 'symlink', path: `usr/bin/${name}`, target: 'busybox' });
  }
  if (options.tools !== undefined) for (const entry of treeEntries(options.tools)) add(entry);
  for (const module of options.modules ?? []) {
    add({ kind: 'file', path: `usr/lib/modules/${basename(module)}`, bytes: readFileSync(module) });
  }
  add(text('init', initScript(options.lanes ?? DEFAULT_LANES), 0o755));
  for (const entry of options.files ?? []) add(entry);
  return [...entries.values()];
}

/** The guest's root as an initramfs. */
export function initramfs(options: GuestRootOptions): Uint8Array {
  return cpio(guestRoot(options));
}

/** The guest's root as files in a host folder, for a guest whose root filesystem is served. */
export function writeGuestRoot(folder: string, options: GuestRootOptions): void {
  for (const entry of guestRoot(options)) {
    const path = join(folder, entry.path);
    if (entry.kind === 'folder') mkdirSync(path, { recursive: true });
    else if (entry.kind === 'symlink' && !existsSync(path)) symlinkSync(entry.target, path);
    else if (entry.kind === 'file') {
      writeFileSync(path, entry.bytes);
      chmodSync(path, entry.mode ?? 0o644);
    }
    // Devices are left out: the guest's own /dev has them, and making one takes root.
  }
}
