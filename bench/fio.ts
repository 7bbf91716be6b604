/** fio in a guest. */
import { shellQuoted, type Vm } from '../lab/index.ts';

export interface FioOptions {
  readonly rw: 'read' | 'randread';
  /** A job each; files of a folder in the guest that hold `sizeBytes` or more. */
  readonly files: readonly string[];
  readonly folder: string;
  /** What is read of each. */
  readonly sizeBytes: number;
  /** How much is read, where it is not `sizeBytes`. */
  readonly readBytes?: number;
}

const LIMIT_MS = 300_000;

/** Has fio map files and read them, 4 KiB at a time, with nothing of them in the guest's caches. */
export async function fioMmap(vm: Vm, options: FioOptions): Promise<{ bytesPerSecond: number; iops: number }> {
  const { rw, files, folder, sizeBytes, readBytes = sizeBytes } = options;
  const jobs = files.map((file) => `--name=${file} --filename=${file}`);
  const common = `--ioengine=mmap --rw=${rw} --bs=4k --size=${sizeBytes} --io_size=${readBytes} --readonly`;
  const report = '--group_reporting --output-format=json --output=/tmp/fio.json';
  const all = `fio --directory=${shellQuoted(folder)} ${common} ${report} ${jobs.join(' ')}`;
  const script = `sync; echo 3 > /proc/sys/vm/drop_caches; ${all} >&2; cat /tmp/fio.json`;
  const result = JSON.parse(await vm.sh(script, { timeoutMs: LIMIT_MS })) as {
    jobs: { read: { bw_bytes: number; iops: number } }[];
  };
  const [{ read }] = result.jobs;
  return { bytesPerSecond: read.bw_bytes, iops: read.iops };
}
