import type { FileResult, PjdfstestResult } from '../../lab/index.ts';

/** What a share gave in one mode: a result, or why there is none. */
export interface Outcome {
  readonly name: string;
  readonly result?: PjdfstestResult;
  readonly error?: string;
}

/** A test, or a whole file, that fails on a share. */
export interface Failure {
  /** `rename/00.t`. */
  readonly file: string;
  /** Absent when it is the whole file. */
  readonly number?: number;
  readonly text: string;
  /** What ext4 gives. */
  readonly ext4: 'passes' | 'fails';
}

const PASSED: FileResult = { run: 0, failed: [], todo: 0 };

/** All that fails on a share. */
function failures(ext4: PjdfstestResult, share: PjdfstestResult): Failure[] {
  return [...share.files].flatMap(([file, { run, failed, problem }]) => {
    const there = ext4.files.get(file) ?? PASSED;
    // The suite runs more tests where it sees ext4: numbers mean the same only when there are as many.
    const alike = there.run === run;
    const known = new Set(alike ? there.failed.map(({ number }) => number) : []);
    const found: Failure[] = failed.map(({ number, text }) => {
      return { file, number, text, ext4: known.has(number) ? 'fails' : 'passes' };
    });
    if (problem !== undefined)
      found.push({ file, text: problem, ext4: there.problem === problem ? 'fails' : 'passes' });
    return found;
  });
}

/** What fails on a share and passes on ext4. */
export function newFailures(ext4: PjdfstestResult, share: PjdfstestResult): Failure[] {
  return failures(ext4, share).filter((each) => each.ext4 === 'passes');
}

const HEAD = ['', 'files', 'tests', 'failed', 'todo', 'seconds'];

function rowOf(name: string, { files, seconds }: PjdfstestResult): string[] {
  const all = [...files.values()];
  const sum = (of: (file: FileResult) => number): number => all.reduce((total, file) => total + of(file), 0);
  const failed = sum((file) => file.failed.length + (file.problem === undefined ? 0 : 1));
  const counts = [all.length, sum(({ run }) => run), failed, sum(({ todo }) => todo), Math.round(seconds)];
  return [name, ...counts.map(String)];
}

/** The counts of all runs as a table. */
function tableOf(rows: readonly (readonly string[])[]): string {
  const all = [HEAD, ...rows];
  const widths = HEAD.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return all.map(line).join('\n');
}

function lineOf({ file, number, text, ext4 }: Failure): string {
  const which = number === undefined ? file : `${file} ${number}`;
  return `  ${which}${text === '' ? '' : `: ${text}`} (ext4 ${ext4})`;
}

/** What a person reads: the counts, then what fails in each mode. */
export function reportOf(ext4: PjdfstestResult, outcomes: readonly Outcome[]): string {
  const rows = [rowOf('ext4', ext4)];
  const parts: string[] = [];
  for (const { name, result, error } of outcomes) {
    if (result === undefined) {
      parts.push(`${name} did not get to its end: ${error}`);
      continue;
    }
    rows.push(rowOf(name, result));
    const found = failures(ext4, result);
    if (found.length > 0) parts.push([`Failing with ${name}:`, ...found.map(lineOf)].join('\n'));
  }
  const onExt4 = [...ext4.files].filter(([, { failed, problem }]) => failed.length > 0 || problem !== undefined);
  if (onExt4.length > 0) parts.push(`Failing on ext4: ${onExt4.map(([file]) => file).join(', ')}`);
  return [tableOf(rows), ...parts].join('\n\n');
}
