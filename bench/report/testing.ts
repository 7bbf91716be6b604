/** A made-up result, for tests: its figures can be reckoned by hand. */
import type { BenchResult, ContestantInfo, Counts, MachineInfo, Row, Sample } from '../results.ts';

/** Without a guest. */
export const MACHINE: MachineInfo = {
  date: '2030-01-02',
  cpuModel: 'Some CPU',
  cores: 3,
  memoryMiB: 7777,
  kernel: '6.12.1',
  fileSystem: 'ext4',
  node: 'v26.10.0',
};

function contestant(id: string, label: string, more: Partial<ContestantInfo>): ContestantInfo {
  return { id, label, kind: 'virtiofs', cache: 'none', writeback: false, version: '0.1.0', ...more };
}

/** A round each, of a second each: so many operations, and so much CPU time for each of them. */
export function rounds(operations: readonly number[], cpuUs?: readonly number[]): Sample[] {
  return operations.map((count, i) => {
    const daemonCpuSeconds = cpuUs === undefined ? undefined : (cpuUs[i] * count) / 1e6;
    return { operations: count, seconds: 1, ...(daemonCpuSeconds === undefined ? {} : { daemonCpuSeconds }) };
  });
}

/** Of a hundred operations. */
export function counts(messages: number, guestMiB: number): Counts {
  return { operations: 100, messages, guestMemoryBytes: guestMiB * 2 ** 20 };
}

export function row(more: Partial<Row>): Row {
  return { suite: 'smallfile', name: 'create', operation: 'files', samples: {}, counts: {}, failures: {}, ...more };
}

const CREATE = row({
  samples: {
    '9p-none': rounds([100, 110, 120]),
    'rust-auto': rounds([400, 500, 440], [300, 200, 250]),
    never: rounds([440, 450, 420], [400, 400, 400]),
    auto: rounds([800, 900, 1320], [150, 220, 250]),
  },
  counts: {
    '9p-none': counts(1234, 0),
    'rust-auto': counts(300, 50),
    never: counts(500, 25),
    auto: counts(200, 100),
  },
});

const LIST = row({
  name: 'ls-l',
  samples: { '9p-loose': rounds([300, 300, 300]), auto: rounds([600, 300, 330], [0, 0, 0]) },
  counts: { '9p-loose': counts(7, 1), auto: counts(0, 0) },
  failures: { 'rust-auto': 'ls: it has | ended' },
});

const MAPPED = row({
  suite: 'fio',
  name: 'mmap read, 1 file',
  operation: 'reads',
  operationBytes: 4096,
  samples: { '9p-none': rounds([2500, 2500, 2500]), dax: rounds([10_000, 20_000, 12_500], [3, 2, 1]) },
  counts: { '9p-none': counts(100, 64), dax: counts(1, 0.5) },
  failures: { never: 'mmap: No such device' },
});

export const RESULT: BenchResult = {
  format: 1,
  machine: { ...MACHINE, guest: { accelerator: 'tcg', qemu: '11.1.3', kernel: '6.12.2', cpus: 1, memoryMiB: 2048 } },
  command: 'virtiofs bench --quick',
  rounds: 3,
  contestants: [
    contestant('9p-none', '9p none', { kind: '9p', version: '11.1.3' }),
    contestant('9p-loose', '9p loose', { kind: '9p', cache: 'loose', version: '11.1.3' }),
    contestant('rust-auto', 'Rust virtiofsd auto', { kind: 'virtiofsd', cache: 'auto', version: '1.13.2' }),
    contestant('never', 'virtiofs never', { cache: 'never' }),
    contestant('auto', 'virtiofs auto', { cache: 'auto' }),
    contestant('dax', 'virtiofs never dax', { cache: 'never', daxWindow: '512M' }),
  ],
  rows: [CREATE, LIST, MAPPED],
};
