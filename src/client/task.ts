/**
 * Work that waits for replies: written once, as a generator, and run either way, by a caller who blocks or by one who
 * awaits a promise. A task yields what it waits for, and goes on when that is settled.
 */

/** Something that will have happened, once. */
export class Latch {
  #settled = false;
  readonly #listeners: (() => void)[] = [];

  get settled(): boolean {
    return this.#settled;
  }

  /** It has happened: whoever waits goes on, here and now. */
  settle(): void {
    if (this.#settled) return;
    this.#settled = true;
    for (const listener of this.#listeners.splice(0)) listener();
  }

  /** Calls back when it has happened; at once where it has. */
  whenSettled(listener: () => void): void {
    if (this.#settled) listener();
    else this.#listeners.push(listener);
  }
}

/** `const reply = yield* session.call(...)`. */
export type Task<T> = Generator<Latch, T, void>;

/** A task that was started. It goes on by itself, and is settled when it has returned or thrown. */
export class Running<T> extends Latch {
  readonly #task: Task<T>;
  #outcome: { readonly value: T } | { readonly error: unknown } | undefined;

  constructor(task: Task<T>) {
    super();
    this.#task = task;
    this.#goOn();
  }

  /** What it returned. Throws what it threw. */
  get result(): T {
    if (this.#outcome === undefined) throw new Error('the task has not ended');
    if ('error' in this.#outcome) throw this.#outcome.error;
    return this.#outcome.value;
  }

  #goOn(): void {
    try {
      for (let step = this.#task.next(); ; step = this.#task.next()) {
        if (step.done === true) {
          this.#outcome = { value: step.value };
          break;
        }
        if (!step.value.settled) {
          step.value.whenSettled(() => this.#goOn());
          return;
        }
      }
    } catch (error) {
      this.#outcome = { error };
    }
    this.settle();
  }
}

/** Starts a task beside the one that asks. Whoever does not wait for it looks for its error nevertheless. */
export function start<T>(task: Task<T>): Running<T> {
  return new Running(task);
}

/** Waits for one that was started. */
export function* join<T>(running: Running<T>): Task<T> {
  if (!running.settled) yield running;
  return running.result;
}

/** Runs all side by side, and returns when all have ended. Throws the first error, in the order given. */
export function* all<T>(tasks: Iterable<Task<T>>): Task<T[]> {
  const running = Array.from(tasks, start);
  for (const each of running) if (!each.settled) yield each;
  return running.map((each) => each.result);
}

/** Runs a task for a caller who awaits it. */
export async function promised<T>(task: Task<T>): Promise<T> {
  const running = start(task);
  if (!running.settled) await new Promise<void>((resolve) => running.whenSettled(resolve));
  return running.result;
}

/** Runs a task for a caller who blocks: `idle` waits for the next reply, whosever, and settles what that settles. */
export function finished<T>(task: Task<T>, idle: () => void): T {
  const running = start(task);
  while (!running.settled) idle();
  return running.result;
}
