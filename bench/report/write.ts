/** A report's files. */
import { accessSync, constants, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { UserError } from '../../src/core/index.ts';
import type { BenchResult } from '../results.ts';
import { chartsOf, documentOf } from './document.ts';
import { htmlOf } from './html.ts';
import { markdownOf } from './markdown.ts';
import { svgFile } from './svg.ts';

function refusal(folder: string, cause: unknown): UserError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const why = code === 'EEXIST' || code === 'ENOTDIR' ? `a file is in the way (${message})` : message;
  return new UserError(`${folder}: no report can be written there: ${why}. --out names another folder.`, { cause });
}

/** As mkdirSync's `recursive`, which never comes back where a file system says ENOENT to what it does not allow. */
function makeFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  if (dirname(path) !== path) makeFolder(dirname(path));
  mkdirSync(path);
}

/** Makes the folder of a report where it is missing. Throws UserError where files cannot be made in it. */
export function makeReportFolder(folder: string): void {
  try {
    makeFolder(folder);
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw refusal(folder, cause);
  }
}

/**
 * Writes `report.md`, `index.html` (which shows everything without the other files), `result.json` and a `.svg` of each
 * chart into a folder, which is made where it is missing. A file that is there stays whole until its successor is.
 * Throws UserError.
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
  makeReportFolder(folder);
  try {
    return files.map(([name, text]) => {
      const path = join(folder, name);
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
      return path;
    });
  } catch (cause) {
    throw refusal(folder, cause);
  }
}
