/** What is said of figures that were taken in several rounds. */

/** The middle of some figures, and where the middle half of them lies. */
export interface Spread {
  readonly median: number;
  /** First quartile. */
  readonly low: number;
  /** Third quartile. */
  readonly high: number;
}

/** Of two contestants, each round's figures against each other. */
export interface Ratio extends Spread {
  /** Rounds in which both were measured. */
  readonly rounds: number;
  /** The two cannot be told apart: the middle half contains 1, or there were too few rounds. */
  readonly noisy: boolean;
}

/** A round in which there was nothing to measure has none. */
export type Figure = number | undefined;

/** Of fewer rounds nothing is said. */
const ENOUGH_ROUNDS = 3;

/** The least for 0, the median for 0.5, the greatest for 1; between two figures in proportion. NaN of none. */
export function quantile(numbers: readonly number[], part: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const below = Math.floor(at);
  const above = Math.ceil(at);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

/** NaN of none. */
export function median(numbers: readonly number[]): number {
  return quantile(numbers, 0.5);
}

/** Of the rounds that have a figure; undefined when none has. */
export function spreadOf(figures: readonly Figure[]): Spread | undefined {
  const numbers = figures.filter((each) => each !== undefined).filter(Number.isFinite);
  if (numbers.length === 0) return undefined;
  return { median: median(numbers), low: quantile(numbers, 0.25), high: quantile(numbers, 0.75) };
}

/**
 * Ours to theirs by round, since what disturbs a round disturbs both. Rounds that one of them lacks, or in which theirs
 * is 0, do not count; undefined when none is left.
 */
export function ratioOf(ours: readonly Figure[], theirs: readonly Figure[]): Ratio | undefined {
  const ratios = ours.flatMap((each, round) => {
    const other = theirs[round];
    return each === undefined || other === undefined || !Number.isFinite(each / other) ? [] : [each / other];
  });
  const spread = spreadOf(ratios);
  if (spread === undefined) return undefined;
  const rounds = ratios.length;
  return { ...spread, rounds, noisy: rounds < ENOUGH_ROUNDS || contains(spread, 1) };
}

/** Whether a number lies in the middle half. */
export function contains({ low, high }: Spread, number: number): boolean {
  return low <= number && number <= high;
}

/** Whether a ratio is on the right side of a goal, and so clearly that noise does not explain it. */
export interface Verdict {
  readonly met: boolean;
  readonly clear: boolean;
}

/** @param better whether more or less is better. */
export function judge(ratio: Ratio, goal: number, better: 'more' | 'less'): Verdict {
  const met = better === 'more' ? ratio.median >= goal : ratio.median <= goal;
  return { met, clear: ratio.rounds >= ENOUGH_ROUNDS && !contains(ratio, goal) };
}

/** With three digits, or two where it is next to nothing. */
export function short(number: number): string {
  if (number >= 99.95 || number === 0) return number.toFixed(0);
  if (number >= 9.995) return number.toFixed(1);
  return number >= 0.1 ? number.toFixed(2) : String(Number(number.toPrecision(2)));
}

/** Such as `1.25 (1.20-1.31)`; `~` behind the median where the two cannot be told apart. */
export function formatRatio({ median: middle, low, high, noisy }: Ratio): string {
  return `${short(middle)}${noisy ? '~' : ''} (${short(low)}-${short(high)})`;
}
