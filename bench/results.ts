/** What `virtiofs bench` finds: its raw JSON, and what reports are made of. */

export type SuiteName = 'smallfile' | 'fio' | 'everyday' | 'daemon';

/** Who was measured. */
export interface ContestantInfo {
  /** Unique, short, such as `virtiofs-auto`. */
  readonly id: string;
  /** For people, such as `virtiofs auto`. */
  readonly label: string;
  readonly kind: '9p' | 'virtiofsd' | 'virtiofs';
  /** `none`, `mmap`, `loose` of 9p; `never`, `metadata`, `auto`, `always` of the daemons. */
  readonly cache: string;
  readonly writeback: boolean;
  /** Size of its DAX window, where it has one. */
  readonly daxWindow?: string;
  /** Request queues; absent: one. */
  readonly queues?: number;
  readonly version: string;
}

/** Who could not be started. */
export interface LeftOut {
  /** As that of ContestantInfo. */
  readonly label: string;
  /** One line, without paths. */
  readonly why: string;
}

/** One contestant, one row, one round. */
export interface Sample {
  readonly operations: number;
  readonly seconds: number;
  /** CPU time of the daemon, all threads; absent for 9p, which QEMU serves itself. */
  readonly daemonCpuSeconds?: number;
  /** Where single operations were timed (daemon-only): microseconds. */
  readonly p50Us?: number;
  readonly p99Us?: number;
}

/** Of one contestant in one row, counted in a round of its own, which is not timed. */
export interface Counts {
  /** Messages from the guest to the server, FORGETs apart. */
  readonly messages?: number;
  readonly operations: number;
  /** By how much the guest's memory in use grew, its caches included, in bytes. */
  readonly guestMemoryBytes?: number;
}

export interface Row {
  readonly suite: SuiteName;
  /** Unique in its suite, such as `create` or `psync random read, 4 KiB`. */
  readonly name: string;
  /** What an operation is, in the plural: `files`, `reads`, `commits`, `runs`. */
  readonly operation: string;
  /** Bytes that an operation moves: the rate is then shown in MB/s. */
  readonly operationBytes?: number;
  /** By contestant id, then by round; a contestant that cannot do it is absent. */
  readonly samples: Readonly<Record<string, readonly Sample[]>>;
  readonly counts: Readonly<Record<string, Counts>>;
  /** Why a contestant has none, by contestant id: one line, such as `mmap: No such device`. */
  readonly failures: Readonly<Record<string, string>>;
}

/** Where it was measured. No names: it is published. */
export interface MachineInfo {
  readonly date: string;
  readonly cpuModel: string;
  readonly cores: number;
  readonly memoryMiB: number;
  readonly kernel: string;
  /** Of the shared folder: a type, such as `xfs`, or `ext4 without a journal`. */
  readonly fileSystem: string;
  readonly node: string;
  /** Absent with --daemon-only: there was no guest. */
  readonly guest?: {
    readonly accelerator: 'kvm' | 'tcg';
    readonly qemu: string;
    readonly kernel: string;
    readonly cpus: number;
    readonly memoryMiB: number;
  };
}

export interface BenchResult {
  readonly format: 1;
  readonly machine: MachineInfo;
  /** As it was asked for. */
  readonly command: string;
  readonly rounds: number;
  readonly contestants: readonly ContestantInfo[];
  /** Absent: nobody. */
  readonly leftOut?: readonly LeftOut[];
  readonly rows: readonly Row[];
}
