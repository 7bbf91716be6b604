/** Reports as text. */
import type { Outcome, Report, Verdict } from './run.ts';

const key = ({ topic, sentence }: Outcome): string => `${topic}: ${sentence}`;
const VERDICTS: readonly Verdict[] = ['passed', 'failed', 'not applicable'];

/** How many outcomes have a verdict. */
export function countOf(report: Report, verdict: Verdict): number {
  return report.outcomes.filter((each) => each.verdict === verdict).length;
}

/** The table by topic, then what failed with what was expected and what came, then why the rest does not apply. */
export function formatReport(report: Report): string {
  const { target, outcomes, seconds } = report;
  const lines = [`${target}: ${outcomes.length} behaviours in ${seconds.toFixed(1)} s`, '', ...table(outcomes)];
  const failed = outcomes.filter(({ verdict }) => verdict === 'failed');
  if (failed.length > 0) lines.push('', 'Failed:');
  for (const outcome of failed) lines.push(`  ${key(outcome)}`, `      ${outcome.reason}`);
  lines.push(...reasons(outcomes));
  return lines.join('\n');
}

function table(outcomes: readonly Outcome[]): string[] {
  const topics = [...new Set(outcomes.map(({ topic }) => topic))];
  const row = (name: string, of: readonly Outcome[]): string => {
    const counts = VERDICTS.map((verdict) => String(of.filter((each) => each.verdict === verdict).length));
    return `${name.padEnd(24)}${counts.map((count, i) => count.padStart([7, 8, 16][i])).join('')}`;
  };
  return [
    `${''.padEnd(24)} passed  failed  not applicable`,
    ...topics.map((topic) =>
      row(
        topic,
        outcomes.filter((each) => each.topic === topic),
      ),
    ),
    row('all', outcomes),
  ];
}

/** Why behaviours do not apply, each reason once. */
function reasons(outcomes: readonly Outcome[]): string[] {
  const counts = new Map<string, number>();
  for (const { verdict, reason = '' } of outcomes) {
    if (verdict === 'not applicable') counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  if (counts.size === 0) return [];
  return ['', 'Not applicable:', ...[...counts].map(([reason, count]) => `  ${String(count).padStart(4)}  ${reason}`)];
}

/** What came out otherwise on a target than on its yardstick. */
export interface Difference {
  readonly outcome: Outcome;
  readonly yardstick: Outcome;
}

/** Differences of two runs of the same behaviours, in their order. */
export function differences(report: Report, yardstick: Report): Difference[] {
  const theirs = new Map(yardstick.outcomes.map((outcome) => [key(outcome), outcome]));
  return report.outcomes.flatMap((outcome) => {
    const other = theirs.get(key(outcome));
    return other === undefined || other.verdict === outcome.verdict ? [] : [{ outcome, yardstick: other }];
  });
}

/** Whether something fails that the yardstick passes. */
export function fallsShort(found: readonly Difference[]): boolean {
  return found.some(({ outcome, yardstick }) => outcome.verdict === 'failed' && yardstick.verdict === 'passed');
}

/** The differing behaviours of two runs, side by side. */
export function formatDifferences(report: Report, yardstick: Report): string {
  const found = differences(report, yardstick);
  if (found.length === 0) return `Every behaviour comes out the same on ${report.target} and on ${yardstick.target}.`;
  const lines = [`Behaviours that come out otherwise on ${report.target} than on ${yardstick.target}:`];
  const lacking = found.filter(({ outcome }) => outcome.verdict === 'not applicable');
  for (const { outcome, yardstick: other } of found.filter((each) => !lacking.includes(each))) {
    lines.push(`  ${key(outcome)}`, `      ${outcome.verdict} (${other.verdict} on ${yardstick.target})`);
    const reason = outcome.reason ?? other.reason;
    if (reason !== undefined) lines.push(`      ${reason}`);
  }
  for (const reason of new Set(lacking.map(({ outcome }) => outcome.reason))) {
    const same = lacking.filter(({ outcome }) => outcome.reason === reason);
    const topics = [...new Set(same.map(({ outcome }) => outcome.topic))].join(', ');
    lines.push(`  ${topics}: ${same.length} not applicable (${reason})`);
  }
  return lines.join('\n');
}
