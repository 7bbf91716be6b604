/** Measurements: `virtiofs bench`. */
export { type BenchOptions, plansOf, runBench } from './bench.ts';
export { PLANS, QUICK_IDS } from './plans.ts';
export type { BenchResult } from './results.ts';
export type { RunProgress } from './run.ts';
export { fioSuite } from './suites/fio.ts';
export type { Suite } from './workload.ts';
