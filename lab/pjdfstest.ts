import { accessSync, constants, existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fetchTools, type FetchOptions } from './assets.ts';
import type { CpioEntry } from './cpio.ts';
import { LabError } from './errors.ts';
import { setGuestClock } from './guest-clock.ts';
import { type FileResult, NOT_RUN, ProveOutput } from './prove.ts';
import { shellQuoted } from './quote.ts';
import type { BootOptions, Vm } from './vm.ts';

/** A built checkout of pjdfstest. */
export interface PjdfstestSuite {
  readonly folder: string;
  /** All its test files: `rename/00.t`. */
  readonly tests: readonly string[];
}

/** What a run of the suite gave, by test file. */
export interface PjdfstestResult {
  readonly files: ReadonlyMap<string, FileResult>;
  readonly seconds: number;
}

export interface PjdfstestRun {
  /** The guest's folder to test: a fresh one is made in it. */
  readonly mountPoint: string;
  readonly tests: readonly string[];
  /** How many test files run at once. */
  readonly jobs: number;
  readonly limitMs: number;
  /** Called as test files end. */
  readonly onProgress?: (filesDone: number) => void;
}

const GUEST_SUITE = 'opt/pjdfstest';
const PROGRAM = 'pjdfstest';

/** The tests draw names from `openssl md5` and the like; BusyBox has the digests under names of their own. */
const OPENSSL = `#!/bin/sh
"$1sum" | { read -r digest rest; echo "$digest"; }
`;

/**
 * @param folder a checkout of pjdfstest, built.
 * @throws LabError SUITE when it is none.
 */
export function openPjdfstest(folder: string): PjdfstestSuite {
  if (!existsSync(join(folder, 'tests/misc.sh'))) {
    throw new LabError('SUITE', `${folder}: this is no checkout of pjdfstest: it has no tests/misc.sh.`);
  }
  const program = join(folder, PROGRAM);
  try {
    accessSync(program, constants.X_OK);
  } catch (cause) {
    const what = `${program}: there is no such program: the checkout is not built.\nBuild it there as its README says.`;
    throw new LabError('SUITE', what, { cause });
  }
  const tests = globSync('**/*.t', { cwd: join(folder, 'tests') }).toSorted();
  return { folder, tests };
}

function fileOf(folder: string, path: string): CpioEntry {
  const host = join(folder, path);
  const { mode } = statSync(host);
  return { kind: 'file', path: `${GUEST_SUITE}/${path}`, mode: mode & 0o777, bytes: readFileSync(host) };
}

/** What a guest needs to run the suite, as options of boot(). */
export async function pjdfstestGuest(
  { folder, tests }: PjdfstestSuite,
  options: FetchOptions = {},
): Promise<Pick<BootOptions, 'tools' | 'files'>> {
  const { tree } = await fetchTools(['perl'], options);
  const folders = new Set(tests.map((each) => dirname(each)).filter((each) => each !== '.'));
  const files: CpioEntry[] = [
    ...['opt', GUEST_SUITE, `${GUEST_SUITE}/tests`, 'usr/local', 'usr/local/bin'],
    ...[...folders].toSorted().map((each) => `${GUEST_SUITE}/tests/${each}`),
  ].map((path) => ({ kind: 'folder', path }));
  for (const path of [PROGRAM, 'tests/conf', 'tests/misc.sh', ...tests.map((each) => `tests/${each}`)]) {
    files.push(fileOf(folder, path));
  }
  const bytes = new TextEncoder().encode(OPENSSL);
  files.push({ kind: 'file', path: 'usr/local/bin/openssl', mode: 0o755, bytes });
  return { tools: tree, files };
}

/** Throws unless the suite's program, built on the host, starts in the guest. */
async function tryProgram(vm: Vm): Promise<void> {
  const { code, stderr } = await vm.run(`/${GUEST_SUITE}/${PROGRAM}`);
  if (code < 126) return;
  const advice = 'Link it statically: the guest has other libraries than this machine.';
  throw new LabError('SUITE', `the suite's ${PROGRAM} does not start in the guest: ${stderr.trim()}\n${advice}`);
}

/**
 * Runs test files on a filesystem of a guest that was booted with pjdfstestGuest(). Files that did not get to their end
 * have a result that says so.
 *
 * @throws LabError when the suite does not start; GuestError when the time is over or the guest is.
 */
export async function runPjdfstest(vm: Vm, run: PjdfstestRun): Promise<PjdfstestResult> {
  await tryProgram(vm);
  // With writeback a file that grows or shrinks has its ctime from the guest, and what it had before from the host.
  await setGuestClock(vm);
  const pathOf = (name: string): string => `/${GUEST_SUITE}/tests/${name}`;
  const output = new ProveOutput(run.tests.map(pathOf));
  const folder = shellQuoted(`${run.mountPoint}/pjdfstest`);
  const began = performance.now();
  const { code, stderr } = await vm.run(
    `mkdir ${folder} && cd ${folder} && exec prove --verbose --jobs ${run.jobs} -`,
    {
      stdin: run.tests.map((name) => `${pathOf(name)}\n`).join(''),
      timeoutMs: run.limitMs,
      onStdout(bytes) {
        output.push(bytes.toString('latin1'));
        run.onProgress?.(output.files.size);
      },
    },
  );
  if (output.files.size === 0) throw new LabError('SUITE', `prove did not run (exit code ${code}): ${stderr.trim()}`);
  const files = new Map(run.tests.map((name) => [name, output.files.get(pathOf(name)) ?? NOT_RUN]));
  return { files, seconds: (performance.now() - began) / 1000 };
}
