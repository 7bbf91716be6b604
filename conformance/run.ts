/** Runs behaviours on a target. */
import type { Behaviour, Need } from './behaviour.ts';
import type { Face } from './face.ts';
import { ALL_BEHAVIOURS } from './topics/index.ts';
import { Mismatch, NotApplicable } from './verdicts.ts';

/** What the suite runs on. */
export interface Target {
  readonly name: string;
  /** Throws UserError when it cannot be tested at all. */
  open(): Session;
}

/** A target that is open. */
export interface Session {
  readonly face: Face;
  /** The folder that the suite makes its own in: an absolute path of the target. */
  readonly folder: string;
  /** What the target lacks, and why. */
  readonly missing: ReadonlyMap<Need, string>;
  close(): void;
}

export type Verdict = 'passed' | 'failed' | 'not applicable';

export interface Outcome {
  readonly topic: string;
  readonly sentence: string;
  readonly verdict: Verdict;
  /** Of a failure: what was expected and what came. Else why it does not apply. */
  readonly reason?: string;
  readonly ms: number;
}

export interface Report {
  readonly target: string;
  readonly outcomes: readonly Outcome[];
  readonly seconds: number;
}

export interface RunOptions {
  /** Runs only what has this in its topic or its sentence. */
  readonly filter?: string;
  /** Leaves what the behaviours made, to be looked at. */
  readonly keep?: boolean;
  /** Called after each behaviour. */
  readonly onOutcome?: (outcome: Outcome, done: number, all: number) => void;
}

/** The behaviours that a filter leaves. */
export function selectBehaviours(filter = ''): readonly Behaviour[] {
  const wanted = filter.toLowerCase();
  return ALL_BEHAVIOURS.filter(({ topic, sentence }) => `${topic}: ${sentence}`.toLowerCase().includes(wanted));
}

/** Runs the suite. Every behaviour gets a folder of its own, which goes again; one that fails stops no other. */
export function runConformance(target: Target, options: RunOptions = {}): Report {
  const start = performance.now();
  const behaviours = selectBehaviours(options.filter);
  const session = target.open();
  const { face } = session;
  const outcomes: Outcome[] = [];
  const home = `${session.folder === '/' ? '' : session.folder}/conformance-${process.pid}-${Date.now().toString(36)}`;
  try {
    face.base = '/';
    face.settle();
    face.mkdir(home, 0o755);
    for (const [i, behaviour] of behaviours.entries()) {
      const began = performance.now();
      const folder = `${home}/${i}`;
      const outcome = { ...runOne(session, behaviour, folder), ms: performance.now() - began };
      if (options.keep !== true) removeQuietly(face, folder);
      outcomes.push(outcome);
      options.onOutcome?.(outcome, outcomes.length, behaviours.length);
    }
    if (options.keep !== true) removeQuietly(face, home);
  } finally {
    session.close();
  }
  return { target: target.name, outcomes, seconds: (performance.now() - start) / 1000 };
}

function runOne(session: Session, behaviour: Behaviour, folder: string): Omit<Outcome, 'ms'> {
  const { topic, sentence, needs, check } = behaviour;
  const lacking = needs.map((need) => session.missing.get(need)).find((why) => why !== undefined);
  if (lacking !== undefined) return { topic, sentence, verdict: 'not applicable', reason: lacking };
  const { face } = session;
  try {
    face.base = folder;
    face.mkdir(folder, 0o777);
    check(face);
    return { topic, sentence, verdict: 'passed' };
  } catch (error) {
    if (error instanceof NotApplicable) return { topic, sentence, verdict: 'not applicable', reason: error.message };
    if (error instanceof Mismatch) return { topic, sentence, verdict: 'failed', reason: error.message };
    const { name, message } = error as Error;
    const reason = name === 'SysError' ? `unexpected error ${message}` : ((error as Error).stack ?? message);
    return { topic, sentence, verdict: 'failed', reason };
  } finally {
    face.settle();
  }
}

/** What a file system cannot remove is not this behaviour's failure; it stays behind. */
function removeQuietly(face: Face, folder: string): void {
  try {
    face.removeTree(folder);
  } catch {
    face.closeAll();
  }
}
