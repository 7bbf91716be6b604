import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { exec } from './exec.ts';

const TRIPLETS: Record<string, { folder: string; loader: string }> = {
  x64: { folder: 'x86_64-linux-gnu', loader: 'ld-linux-x86-64.so.2' },
  arm64: { folder: 'aarch64-linux-gnu', loader: 'ld-linux-aarch64.so.1' },
};

/**
 * The command line that starts the QEMU of an unpacked tree, with the tree's own C library and loader: the host's may
 * be older, or not glibc.
 */
export function qemuOfTree(tree: string): string[] {
  // Its modules would be looked for relative to the running program, which is the loader.
  const modules = join(tree, 'usr/lib', TRIPLETS[process.arch]?.folder ?? '', 'qemu');
  return [
    ...(existsSync(modules) ? ['env', `QEMU_MODULE_DIR=${modules}`] : []),
    ...programOfTree(tree, 'usr/bin/qemu-system-x86_64'),
    '-L',
    join(tree, 'usr/share/qemu'),
    '-L',
    join(tree, 'usr/share/seabios'),
  ];
}

/** The command line that starts a program of an unpacked tree of this machine's architecture. */
export function programOfTree(tree: string, path: string): string[] {
  const { folder, loader } = TRIPLETS[process.arch] ?? { folder: '', loader: '' };
  // Debian 12 has its C library in /lib and the rest in /usr/lib; since 13 all is in /usr/lib.
  const libraries = ['usr/lib', 'lib'].map((each) => join(tree, each, folder)).filter((each) => existsSync(each));
  const loaders = libraries.map((each) => join(each, loader)).filter((each) => existsSync(each));
  return [loaders[0] ?? '', '--library-path', libraries.join(':'), join(tree, path)];
}

/** The version that a QEMU says it has, or undefined when it does not start. */
export async function qemuVersion(command: readonly string[]): Promise<string | undefined> {
  const { code, stdout } = await exec(command[0] ?? '', [...command.slice(1), '--version'], { timeoutMs: 20_000 });
  return code === 0 ? /QEMU emulator version (\d+(?:\.\d+)+)/.exec(stdout)?.[1] : undefined;
}

/** True when a QEMU can emulate: it starts, finds its parts and its machine answers. */
export async function qemuStarts(command: readonly string[]): Promise<boolean> {
  const args = ['-nodefaults', '-display', 'none', '-machine', 'none,accel=tcg', '-qmp', 'stdio'];
  const input = '{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n';
  const { code } = await exec(command[0] ?? '', [...command.slice(1), ...args], { timeoutMs: 20_000, input });
  return code === 0;
}
