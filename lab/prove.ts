/*
 * Reads what `prove --verbose` writes where no terminal is: for each test file, when it has ended, a line with its name
 * and dots, what it printed (TAP, the Test Anything Protocol), and a verdict; at the end a summary.
 */

/** A test that failed, and was not expected to. */
export interface FailedTest {
  readonly number: number;
  /** What the test says about itself, if anything. */
  readonly text: string;
}

/** What a test file gave. */
export interface FileResult {
  /** Tests that ran. */
  readonly run: number;
  readonly failed: readonly FailedTest[];
  /** Tests that the file itself marks as not to be counted on, whatever they gave. */
  readonly todo: number;
  /** What was wrong with the file as a whole: its exit code, its plan. */
  readonly problem?: string;
}

/** A file that did not get to its end. */
export const NOT_RUN: FileResult = { run: 0, failed: [], todo: 0, problem: 'did not run' };

const PLAN = /^1\.\.(\d+)/;
const TEST = /^(not ok|ok (?=\d))(?: ?(\d+))?(?: -)? ?(.*)$/;
const MARKED = /# *todo\b/i;
const DUBIOUS = /^Dubious, (.*)$/;
const SUMMARY = 'Test Summary Report';
const TOTALS = /^Files=(\d+), Tests=(\d+),/;

class OpenFile {
  run = 0;
  todo = 0;
  planned: number | undefined;
  readonly failed: FailedTest[] = [];
  problem: string | undefined;

  take(line: string): void {
    const plan = PLAN.exec(line);
    if (plan !== null) {
      this.planned = Number(plan[1]);
      return;
    }
    const test = TEST.exec(line);
    if (test !== null) {
      this.run += 1;
      const text = test[3] ?? '';
      if (MARKED.test(text)) this.todo += 1;
      else if (test[1] === 'not ok') this.failed.push({ number: Number(test[2] ?? this.run), text });
      return;
    }
    this.problem ??= DUBIOUS.exec(line)?.[1];
  }

  end(): FileResult {
    const { run, failed, todo, planned } = this;
    const unplanned = planned === undefined ? 'no plan' : `planned ${planned} tests, ran ${run}`;
    const problem = this.problem ?? (planned === run ? undefined : unplanned);
    return problem === undefined ? { run, failed, todo } : { run, failed, todo, problem };
  }
}

/** Takes the output in pieces, as it comes. */
export class ProveOutput {
  /** The files that have ended, by the names that prove was given. */
  readonly files = new Map<string, FileResult>();
  /** The number of tests as prove counts them; absent when it did not get to its end. */
  tests: number | undefined;
  readonly #names: ReadonlySet<string>;
  #rest = '';
  #name = '';
  #open: OpenFile | undefined;

  /** @param names of the test files, as given to prove. */
  constructor(names: Iterable<string>) {
    this.#names = new Set(names);
  }

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#take(line);
  }

  #take(line: string): void {
    const [, name, skipped] = /^(.+?) \.\.+ ?(skipped:.*)?$/.exec(line) ?? [];
    if (name !== undefined && this.#names.has(name)) {
      this.#endFile();
      if (skipped === undefined) {
        this.#name = name;
        this.#open = new OpenFile();
      } else this.files.set(name, { run: 0, failed: [], todo: 0 });
      return;
    }
    const totals = TOTALS.exec(line);
    if (line === SUMMARY || totals !== null) this.#endFile();
    if (totals !== null) this.tests = Number(totals[2]);
    this.#open?.take(line);
  }

  #endFile(): void {
    if (this.#open !== undefined) this.files.set(this.#name, this.#open.end());
    this.#open = undefined;
  }
}
