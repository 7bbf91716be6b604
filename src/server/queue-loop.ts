import { Epoll } from '../sys/index.ts';
import { KEY_KICK, KEYS, type ServedQueue } from './served-queue.ts';

const KEY_WAKE = 0;
const FIRST_KEY = 1;

/** The request queues of a thread: sleeps until there is something to do for one of them, and does it. */
export class QueueLoop {
  /** Whether the last turn found `wakeFd` readable. */
  woken = false;
  readonly #epoll = new Epoll();
  /** By their keys; those that are served no longer are gone. */
  readonly #byKey: (ServedQueue | undefined)[] = [];
  #queues: readonly ServedQueue[] = [];

  /** `wakeFd`: ends its sleep. */
  constructor(wakeFd: number) {
    this.#epoll.add(wakeFd, KEY_WAKE);
  }

  get isEmpty(): boolean {
    return this.#queues.length === 0;
  }

  add(queue: ServedQueue): void {
    queue.join(this.#epoll, FIRST_KEY + this.#byKey.length * KEYS);
    // A command may have come before it could be heard.
    queue.woken = true;
    this.#byKey.push(queue);
    this.#queues = [...this.#queues, queue];
  }

  /** How long it may sleep; -1: until something happens. */
  get patienceMs(): number {
    let least = -1;
    for (const queue of this.#queues) {
      if (queue.kicked || queue.woken) return 0;
      const { patienceMs } = queue.runner;
      if (patienceMs >= 0 && (least < 0 || patienceMs < least)) least = patienceMs;
    }
    return least;
  }

  /** Sleeps for `timeoutMs` at most (-1: without end) and does what there is to do; how much was ready. */
  turn(timeoutMs: number): number {
    const ready = this.#epoll.wait(timeoutMs);
    this.#note(ready);
    for (const queue of this.#queues) {
      const { runner, woken } = queue;
      queue.kicked = queue.kicked && runner.run();
      if (woken) this.#obey(queue);
      runner.attend(woken);
    }
    return ready;
  }

  #note(ready: number): void {
    this.woken = false;
    for (let i = 0; i < ready; i += 1) {
      const key = this.#epoll.key(i);
      if (key === KEY_WAKE) {
        this.woken = true;
        continue;
      }
      const queue = this.#byKey[Math.floor((key - FIRST_KEY) / KEYS)];
      if (queue === undefined) continue;
      if ((key - FIRST_KEY) % KEYS === KEY_KICK) queue.kicked = true;
      else queue.woken = true;
    }
  }

  /** Does what the queue's session told, if it did. */
  #obey(queue: ServedQueue): void {
    queue.woken = false;
    // A queue that was started again may have missed its kick.
    queue.kicked = true;
    if (!queue.obey()) {
      this.#byKey[this.#byKey.indexOf(queue)] = undefined;
      this.#queues = this.#queues.filter((each) => each !== queue);
    }
    const running = this.#queues.filter(({ runner }) => runner.kickFd >= 0);
    for (const { runner } of running) runner.alone = running.length === 1;
  }

  /** Nothing is served any more. */
  end(): void {
    for (const queue of this.#queues) queue.end();
    this.#queues = [];
    this.#epoll.close();
  }
}
