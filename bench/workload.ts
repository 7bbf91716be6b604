/** What guests are made to do, and measured at. */
import type { CpioEntry, FetchOptions, Vm } from '../lab/index.ts';
import type { Row, SuiteName } from './results.ts';

/** A contestant's place in a guest. */
export interface Place {
  readonly vm: Vm;
  /** An empty folder on the contestant's filesystem, for this suite and this contestant alone, in the guest. */
  readonly folder: string;
  /** The same folder on the host. */
  readonly hostFolder: string;
}

/** What a step did, timed by itself in the guest. */
export interface Outcome {
  readonly operations: number;
  readonly seconds: number;
}

/** What is measured. Caches of the guest are dropped (and all is written back) before it; daemons are watched. */
export interface Step extends Pick<Row, 'name' | 'operation' | 'operationBytes'> {
  /** Not measured, before the caches are dropped. */
  readonly before?: (place: Place) => Promise<void>;
  /** Throws when it cannot be done there: the message's first line is shown in the report. */
  readonly run: (place: Place) => Promise<Outcome>;
  /** With what the guest has in its caches from the step before. */
  readonly cached?: boolean;
}

/** Steps that are done in their order, in each round by each contestant. */
export interface Suite {
  readonly name: SuiteName;
  /** Debian packages whose programs the guest needs. */
  readonly packages: readonly string[];
  /** The guest needs Node.js (and has this project in GUEST_PROJECT). */
  readonly node: boolean;
  /** More files for the guest's root. */
  readonly files?: (fetching?: FetchOptions) => Promise<readonly CpioEntry[]>;
  /** Fills the folder from the host, before the first round. */
  readonly prepare?: (hostFolder: string) => Promise<void>;
  /**
   * All contestants work on the same files, each in its turn, by links of its own: for steps that replace none. In what
   * pieces the host's page cache has a file is luck, and every write to it pays for it.
   */
  readonly sharesFiles?: boolean;
  readonly steps: readonly Step[];
}
