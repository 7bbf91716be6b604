/** The workloads of `virtiofs bench`. */
import type { Suite } from '../workload.ts';
import { everyday, EVERYDAY_SIZES } from './everyday.ts';
import { fioSuite } from './fio.ts';
import { ownSmallfile, publicSmallfile, SMALLFILE_SIZES } from './smallfile.ts';

export const SUITE_NAMES = ['smallfile', 'fio', 'everyday'];

export interface SuiteOptions {
  readonly quick: boolean;
  /** A checkout of the public smallfile; absent: our own equivalent. */
  readonly smallfile?: string;
}

const FIO_SIZES = { full: { fileMiB: 64, seconds: 1 }, quick: { fileMiB: 16, seconds: 0.5 } };

/** The suites of those names. Throws UserError. */
export function benchSuites(names: readonly string[], { quick, smallfile }: SuiteOptions): Suite[] {
  const size = quick ? 'quick' : 'full';
  const files = SMALLFILE_SIZES[size];
  const all = [
    () => (smallfile === undefined ? ownSmallfile(files) : publicSmallfile(smallfile, files)),
    () => fioSuite(FIO_SIZES[size]),
    () => everyday(EVERYDAY_SIZES[size]),
  ];
  return all.filter((_, i) => names.includes(SUITE_NAMES[i])).map((make) => make());
}
