/** The six operations of smallfile: by our own program, or by the public tool from a checkout. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { type CpioEntry, GUEST_PROJECT, shellQuoted, type Vm } from '../../lab/index.ts';
import { UserError } from '../../src/core/index.ts';
import type { Outcome, Place, Step, Suite } from '../workload.ts';
import { done, oneLine, WORK_LIMIT_MS } from './in-guest.ts';
import type { Answer, Job, Operation } from './smallfile-guest.ts';

export interface SmallfileSize {
  readonly threads: number;
  /** Of each thread. */
  readonly files: number;
  readonly fileKiB: number;
}

export const SMALLFILE_SIZES = {
  full: { threads: 8, files: 256, fileKiB: 64 },
  quick: { threads: 8, files: 32, fileKiB: 64 },
} as const;

/** Does an operation on all files. */
type Perform = (place: Place, operation: Operation) => Promise<Outcome>;

const emptied = ({ vm, folder }: Place): Promise<void> => done(vm, folder, 'rm -rf ./*');

/** Everything is where it was before it was renamed, and still known to the guest. */
const renamedBack = ({ vm, folder }: Place): Promise<void> =>
  done(vm, folder, 'mv file_srcdir empty; mv file_dstdir file_srcdir; mv empty file_dstdir');

function steps(perform: Perform): Step[] {
  const step = (operation: Operation, before?: (place: Place) => Promise<void>): Step => ({
    name: operation,
    operation: 'files',
    before,
    run: (place) => perform(place, operation),
  });
  const cached = (plain: Step): Step => ({ ...plain, name: `${plain.name} cached`, cached: true });
  return [
    step('create', emptied),
    step('ls-l'),
    cached(step('ls-l')),
    step('read'),
    step('append'),
    step('rename'),
    cached(step('rename', renamedBack)),
    step('delete-renamed'),
  ];
}

const PROGRAM = import.meta.url.endsWith('.ts')
  ? `${GUEST_PROJECT}/bench/suites/smallfile-guest.ts`
  : `${GUEST_PROJECT}/dist/bench/suites/smallfile-guest.js`;

/** In the guest's own memory: the FIFOs through which the program is asked. */
const stationOf = (threads: number): string => `/tmp/smallfile-${threads}`;

/** Starts the program in a guest unless it runs there, and waits until it is warm. */
function started(vm: Vm, threads: number): Promise<void> {
  const script = `[ ! -e running ] || exit 0
    rm -f ask answer; mkfifo ask answer; touch running
    ( setsid node --no-warnings ${PROGRAM} "$PWD" ${threads} "$PWD/warm" > log 2>&1 < /dev/null ||
      { rm -f running; echo '{}' > answer; } ) > /dev/null 2>&1 &
    read -r answer < answer
    [ -e running ] || { cat log >&2; exit 1; }`;
  const station = stationOf(threads);
  return done(vm, '/', `mkdir -p ${station}; cd ${station}\n${script}`);
}

async function ask(vm: Vm, threads: number, job: Job): Promise<number> {
  const question = shellQuoted(JSON.stringify(job));
  // Where the program has ended, nobody would open the other end.
  const script = `cd ${stationOf(threads)}
    [ ! -e running ] || { printf '%s\n' ${question} > ask; cat answer; }
    [ -e running ] || { cat log >&2; exit 1; }`;
  const { code, stdout, stderr } = await vm.run(script, { timeoutMs: WORK_LIMIT_MS });
  if (code !== 0) throw new Error(`smallfile's program has ended: ${oneLine(stderr)}`);
  const { seconds, error } = JSON.parse(stdout) as Answer;
  if (seconds === undefined) throw new Error(oneLine(error ?? ''));
  return seconds;
}

/** By a program of this project, which needs nothing from outside. */
export function ownSmallfile({ threads, files, fileKiB }: SmallfileSize): Suite {
  const perform: Perform = async ({ vm, folder }, operation) => {
    const seconds = await ask(vm, threads, { operation, folder, files, fileBytes: fileKiB * 1024 });
    return { operations: threads * files, seconds };
  };
  const warmed = steps(perform).map((step) => ({
    ...step,
    before: async (place: Place): Promise<void> => {
      await started(place.vm, threads);
      await step.before?.(place);
    },
  }));
  return { name: 'smallfile', packages: [], node: true, steps: warmed };
}

const TOOL = 'opt/smallfile';
const TOOL_PROGRAM = 'smallfile_cli.py';
const START = `${TOOL}/start-patiently.py`;
/** The tool gives up when its threads are not there in 3 s; emulated, they need longer. */
const PATIENT = `import runpy, smf_test_params
own = smf_test_params.smf_test_params.recalculate_timeouts
def patient(parameters):
    own(parameters)
    parameters.startup_timeout += 120
smf_test_params.smf_test_params.recalculate_timeouts = patient
runpy.run_path('/${TOOL}/${TOOL_PROGRAM}', run_name='__main__')
`;

/** What the tool writes into its file of results. */
interface ToolResult {
  readonly results?: { readonly status: string; readonly filesPerSec: number };
}

function toolFiles(checkout: string): CpioEntry[] {
  const programs = readdirSync(checkout).filter((name) => name.endsWith('.py'));
  return [
    // Its threads write their logs there.
    { kind: 'folder', path: 'var/tmp', mode: 0o1777 },
    { kind: 'folder', path: 'opt' },
    { kind: 'folder', path: TOOL },
    { kind: 'file', path: START, bytes: new TextEncoder().encode(PATIENT) },
    ...programs.map((name) => {
      return { kind: 'file', path: `${TOOL}/${name}`, bytes: readFileSync(join(checkout, name)) } as const;
    }),
  ];
}

/**
 * By the public tool.
 *
 * @param checkout a checkout of it on the host.
 * @throws UserError when it is none.
 */
export function publicSmallfile(checkout: string, { threads, files, fileKiB }: SmallfileSize): Suite {
  if (!existsSync(join(checkout, TOOL_PROGRAM))) {
    throw new UserError(`${checkout}: this is no checkout of smallfile: it has no ${TOOL_PROGRAM}.`);
  }
  const perform: Perform = async ({ vm, folder }, operation) => {
    // Threads meet at files, which would be on the contestant's filesystem otherwise, and be measured with the rest.
    const work = `--threads ${threads} --files ${files} --file-size ${fileKiB} --finish Y --top ${shellQuoted(folder)}`;
    const places = '--network-sync-dir /tmp/smallfile-sync --output-json /tmp/smallfile.json';
    const script = `rm -rf /tmp/smallfile.json /tmp/smallfile-sync; mkdir /tmp/smallfile-sync
      python3 /${START} --operation ${operation} ${work} ${places} > /tmp/smallfile.out 2>&1 ||
        { tail -1 /tmp/smallfile.out >&2; exit 1; }
      cat /tmp/smallfile.json`;
    const { code, stdout, stderr } = await vm.run(script, { timeoutMs: WORK_LIMIT_MS });
    if (code !== 0) throw new Error(`smallfile: ${oneLine(stderr)}`);
    const { results } = JSON.parse(stdout) as ToolResult;
    if (results?.status !== 'Success') throw new Error(`smallfile ${operation}: ${results?.status ?? 'no result'}`);
    // Its rate is that of the time while all threads work; all files are done nevertheless.
    const operations = threads * files;
    return { operations, seconds: operations / results.filesPerSec };
  };
  const suite = { name: 'smallfile', packages: ['python3'], node: false } as const;
  return { ...suite, files: () => Promise.resolve(toolFiles(checkout)), steps: steps(perform) };
}
