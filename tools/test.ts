/**
 * Runs the tests: `node tools/test.ts [--unit] [--guest] [--timeout SECONDS] [PATH ...]`.
 *
 * Every file is a process of its own; unit tests run first, three at a time, then those that boot guests, two at a time
 * (`*.guest.test.ts`). A PATH is a file, or a part of the paths that are wanted. The last line is `N passed, N failed`;
 * the exit code is 1 when any test failed, or when there was none.
 */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { run } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { inspect, parseArgs } from 'node:util';

const ROOT = resolve(import.meta.dirname, '..');
const PATTERN = '{src,lab,conformance,bench,spec,tools,test}/**/*.test.ts';
/** Deadlines for what hangs: no busy machine is so slow. */
const UNIT_SECONDS = 300;
const GUEST_SECONDS = 900;
/** What a file gets, after SIGTERM, to clean up in. */
const GRACE_MS = 2000;
const SLOWEST = 5;

interface FileResult {
  readonly path: string;
  passed: number;
  skipped: number;
  readonly failures: string[];
  /** What the file printed, shown when it failed. */
  output: string;
  seconds: number;
}

// Every file starts threads that load the sources: compiled once, they take half of the time.
process.env['NODE_COMPILE_CACHE'] ??= join(ROOT, 'node_modules', '.cache', 'compile');

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { unit: { type: 'boolean' }, guest: { type: 'boolean' }, timeout: { type: 'string' } },
});

function isGuest(path: string): boolean {
  return path.endsWith('.guest.test.ts');
}

/** The files that the command line asks for, as absolute paths. */
function findFiles(): string[] {
  const found = new Set<string>();
  const all = globSync(PATTERN, { cwd: ROOT }).toSorted();
  const filters = positionals.length === 0 ? [''] : positionals;
  for (const filter of filters) {
    const file = resolve(filter);
    const matches =
      filter.endsWith('.test.ts') && existsSync(file) ? [file] : all.filter((path) => path.includes(filter));
    for (const path of matches) found.add(resolve(ROOT, path));
  }
  const wanted = (path: string): boolean =>
    options.unit === options.guest || isGuest(path) === (options.guest ?? false);
  return [...found].filter(wanted);
}

/** Ends what is left of a file's process: it may hang in a system call, or catch SIGTERM. */
async function killLeftOver(file: string): Promise<void> {
  await delay(GRACE_MS);
  for (const pid of readFileSync('/proc/thread-self/children', 'utf8').split(' ').filter(Boolean)) {
    // Gone in the meantime is as good.
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(file)) process.kill(Number(pid), 'SIGKILL');
    } catch {}
  }
}

/** Runs one file to its end or to its deadline. */
async function runFile(file: string): Promise<FileResult> {
  const result: FileResult = {
    path: relative(ROOT, file),
    passed: 0,
    skipped: 0,
    failures: [],
    output: '',
    seconds: 0,
  };
  const start = performance.now();
  const limit = Number(options.timeout ?? (isGuest(file) ? GUEST_SECONDS : UNIT_SECONDS));
  const deadline = AbortSignal.timeout(limit * 1000);
  const events = run({
    files: [file],
    concurrency: false,
    cwd: ROOT,
    execArgv: ['--disable-warning=ExperimentalWarning'],
    signal: deadline,
  });
  const running = new Set<string>();
  for await (const { type, data } of events) {
    if (type === 'test:stdout' || type === 'test:stderr') result.output += data.message;
    if (type === 'test:dequeue' && data.name !== file) running.add(data.name);
    if (type === 'test:complete') running.delete(data.name);
    if (type === 'test:pass' && data.details.type !== 'suite') {
      // What passes under the file's own name is a file without a test.
      if (data.name === file) result.failures.push(`${result.path}: holds no test`);
      else if (data.skip !== undefined) result.skipped += 1;
      else result.passed += 1;
    }
    if (type === 'test:fail' && data.details.type !== 'suite' && data.todo === undefined) {
      const where = data.name === file ? result.path : `${result.path}:${data.line}: ${data.name}`;
      const { failureType, cause } = data.details.error as Error & { failureType?: string };
      const names = [...running].join(', ') || 'no test';
      const aborted = `did not end within ${limit} s; at that time it ran: ${names}`;
      result.failures.push(
        `${where}\n${failureType === 'testAborted' ? aborted : inspect(cause ?? data.details.error)}`,
      );
    }
  }
  if (deadline.aborted) await killLeftOver(file);
  result.seconds = (performance.now() - start) / 1000;
  return result;
}

function report(result: FileResult): void {
  const { path, passed, skipped, failures, seconds, output } = result;
  const skips = skipped === 0 ? '' : `, ${skipped} skipped`;
  const verdict = failures.length === 0 ? 'ok  ' : 'FAIL';
  console.log(`${verdict} ${path}: ${passed} passed, ${failures.length} failed${skips}, ${seconds.toFixed(1)} s`);
  if (failures.length === 0) return;
  for (const failure of failures) console.log(`\n--- ${failure}\n`);
  if (output !== '') console.log(`--- ${path} printed:\n${output}\n`);
}

/** Runs files, so many at a time, and reports each as it ends. */
async function runAll(files: readonly string[], jobs: number): Promise<FileResult[]> {
  const results: FileResult[] = [];
  const rest = [...files];
  const work = async (): Promise<void> => {
    for (let file = rest.shift(); file !== undefined; file = rest.shift()) {
      const result = await runFile(file);
      results.push(result);
      report(result);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return results;
}

const files = findFiles();
const jobs = Math.min(2, availableParallelism());
// One more than there are cores for: many wait for threads and processes to end.
const unit = await runAll(
  files.filter((file) => !isGuest(file)),
  jobs + 1,
);
const results = [...unit, ...(await runAll(files.filter(isGuest), jobs))];

const slowest = results.toSorted((a, b) => b.seconds - a.seconds).slice(0, SLOWEST);
if (results.length > SLOWEST) {
  console.log(`\nslowest: ${slowest.map(({ path, seconds }) => `${path} ${seconds.toFixed(1)} s`).join(', ')}`);
}
const failed = results.filter(({ failures }) => failures.length > 0);
if (failed.length > 0) console.log(`\nfailed: ${failed.map(({ path }) => path).join(', ')}`);
const sum = (count: (result: FileResult) => number): number => results.reduce((total, each) => total + count(each), 0);
const passedTests = sum(({ passed }) => passed);
const failedTests = sum(({ failures }) => failures.length);
const skippedTests = sum(({ skipped }) => skipped);
if (skippedTests > 0) console.log(`${skippedTests} skipped`);
if (results.length === 0) console.log('no test file matches');
console.log(`${passedTests} passed, ${failedTests} failed`);
// Set, not called: what was printed goes out first.
process.exitCode = failedTests > 0 || passedTests === 0 ? 1 : 0;
