/**
 * How a file system behaves, sentence by sentence, against POSIX and the Linux manual pages.
 *
 * ```ts
 * import { directoryTarget, fileSystemTarget, formatReport, runConformance } from 'virtiofs/conformance';
 *
 * console.log(formatReport(runConformance(directoryTarget('/mnt/share'))));
 * console.log(formatReport(runConformance(fileSystemTarget(await import('./my-file-system.ts'), options))));
 * ```
 */
export type { Need } from './behaviour.ts';
export { clientTarget, type ClientTargetOptions } from './client-target.ts';
export { directoryTarget } from './directory-target.ts';
export { type Mode, throughClient, throughDriver } from './driver.ts';
export { fileSystemTarget } from './file-system-target.ts';
export { countOf, type Difference, differences, fallsShort, formatDifferences, formatReport } from './report.ts';
export {
  type Outcome,
  type Report,
  runConformance,
  type RunOptions,
  selectBehaviours,
  type Session,
  type Target,
  type Verdict,
} from './run.ts';
