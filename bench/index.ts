/** Measurements: `virtiofs bench`. */
export { type BenchOptions, plansOf, runBench } from './bench.ts';
export { type DaemonOnlyOptions, runDaemonOnly } from './daemon-only.ts';
export { caveatOf, describeMachine } from './machine-info.ts';
export { PLANS, QUICK_IDS } from './plans.ts';
export { makeReportFolder, readResult, writeReport } from './report/index.ts';
export type { BenchResult } from './results.ts';
export type { RunProgress } from './run.ts';
export { benchSuites, SUITE_NAMES, type SuiteOptions } from './suites/index.ts';
