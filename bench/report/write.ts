/** A report's files. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { BenchResult } from '../results.ts';
import { chartsOf, documentOf } from './document.ts';
import { htmlOf } from './html.ts';
import { markdownOf } from './markdown.ts';
import { svgFile } from './svg.ts';

/**
 * Writes `report.md`, `index.html` (which shows everything without the other files), `result.json` and a `.svg` of each
 * chart into a folder, which is made where it is missing.
 *
 * @returns the paths, in that order.
 */
export function writeReport(result: BenchResult, folder: string): string[] {
  const parts = documentOf(result);
  const files: [name: string, text: string][] = [
    ['report.md', markdownOf(parts)],
    ['index.html', htmlOf(parts)],
    ['result.json', `${JSON.stringify(result, null, 1)}\n`],
    ...chartsOf(parts).map((chart): [string, string] => [`${chart.name}.svg`, svgFile(chart)]),
  ];
  mkdirSync(folder, { recursive: true });
  return files.map(([name, text]) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  });
}
