/** Contestants that are not there: this machine may not be able to start all of them. */
import { LabError, messageOf, type Progress } from '../lab/index.ts';
import type { LeftOut } from './results.ts';

/** Words with a slash, without the punctuation behind them. */
const PATHS = /\S*\/\S*?(?=[:;,.)'"]*(?:\s|$))/g;

/** What a daemon said last says why it ended; of a guest the first line says what became of it. */
function whyOf({ code, message }: LabError): string {
  const lines = message.split('\n').filter((line) => line.trim() !== '');
  return (code === 'DAEMON' && lines.length > 1 ? [lines[0], lines.at(-1)] : lines.slice(0, 1)).join(': ');
}

/**
 * Leaves a contestant out that could not be started, and says so. In the report, which is published, there are no paths
 * of this machine. Throws the error where it is not one of the lab.
 */
export function leaveOut(label: string, error: unknown, progress: Progress): LeftOut {
  if (!(error instanceof LabError)) throw error;
  progress.note(`left out: ${label}: ${messageOf(error)}`);
  return { label, why: whyOf(error).replace(PATHS, 'PATH') };
}

/** Throws LabError when nobody is left. */
export function someoneIsLeft(there: number, leftOut: readonly LeftOut[]): void {
  if (there > 0) return;
  const why = leftOut.map((each) => `${each.label}: ${each.why}`).join('\n');
  throw new LabError('DAEMON', `no contestant could be started\n${why}`);
}
