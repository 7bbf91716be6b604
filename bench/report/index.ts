/** Reports of `virtiofs bench`: Markdown, charts, and a page that shows it all. The README shows the chart `ratios`. */
export { readResult } from './read.ts';
export { makeReportFolder, writeReport } from './write.ts';
