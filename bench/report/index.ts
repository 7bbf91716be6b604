/** Reports of `virtiofs bench`: Markdown, charts, and a page that shows it all. The README shows the chart `ratios`. */
export { ratioChart } from './charts.ts';
export { readResult } from './read.ts';
export { type Chart, svgFile } from './svg.ts';
export { writeReport } from './write.ts';
