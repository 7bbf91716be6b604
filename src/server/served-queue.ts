import { receiveMessageOnPort } from 'node:worker_threads';

import { drainEventfd, type Epoll, EPOLLET, EPOLLIN } from '../sys/index.ts';
import type { MemoryMirror } from './memory-mirror.ts';
import { QueueRunner, type Waiting } from './queue-runner.ts';
import type { Serving } from './serving.ts';
import {
  ANSWER_COUNT,
  ANSWER_FAILED,
  ANSWER_RESULT,
  ANSWER_STARTED,
  type QueueCommand,
  type QueueData,
} from './threads.ts';

// What its loop's epoll set says of a queue, added to the queue's first key.
const KEY_COMMAND = 0;
export const KEY_KICK = 1;
export const KEYS = 2;

/** By what its requests are served. */
type Served = Pick<Serving, 'mirror' | 'gate' | 'warn'>;
/** By what it is told. */
type Told = Pick<QueueData, 'queue' | 'commands' | 'commandFd' | 'answers'>;

/** A request queue on the thread that serves it, maybe beside others: what its session tells, and what it has to do. */
export class ServedQueue {
  /** There is, or may be, something in the ring. */
  kicked = false;
  /** A command has come, or something to be asked again. */
  woken = false;
  readonly runner: QueueRunner;
  readonly #data: Told;
  readonly #mirror: MemoryMirror;
  readonly #answers: Int32Array;
  #epoll: Epoll | undefined;
  #key = 0;

  constructor(data: Told, { mirror, gate, warn }: Served, { pool, waits, wakers }: Omit<Waiting, 'wakeFd'>) {
    this.#data = data;
    this.#answers = new Int32Array(data.answers);
    this.#mirror = mirror;
    const waiting = { pool, waits, wakers, wakeFd: data.commandFd };
    this.runner = new QueueRunner(mirror.memory, data.queue, gate, warn, waiting);
  }

  /** `epoll`: what its loop sleeps on. `key`: the first of KEYS. */
  join(epoll: Epoll, key: number): void {
    this.#epoll = epoll;
    this.#key = key;
    epoll.add(this.#data.commandFd, key + KEY_COMMAND);
    Atomics.store(this.#answers, ANSWER_STARTED, 1);
  }

  /** Does all commands that have come; false after `quit`. */
  obey(): boolean {
    const { commands, commandFd } = this.#data;
    const answers = this.#answers;
    drainEventfd(commandFd);
    for (let next = receiveMessageOnPort(commands); next !== undefined; next = receiveMessageOnPort(commands)) {
      const command = next.message as QueueCommand;
      const quits = command.kind === 'quit';
      try {
        answers[ANSWER_FAILED] = 0;
        answers[ANSWER_RESULT] = this.#execute(command);
      } catch (error) {
        answers[ANSWER_FAILED] = 1;
        commands.postMessage((error as Error).message);
      }
      Atomics.add(answers, ANSWER_COUNT, 1);
      Atomics.notify(answers, ANSWER_COUNT);
      if (!quits) continue;
      commands.close();
      return false;
    }
    return true;
  }

  #execute(command: QueueCommand): number {
    const { runner } = this;
    switch (command.kind) {
      case 'memory':
        this.#mirror.set(command.regions);
        return 0;
      case 'start':
        this.#epoll?.add(command.ring.kickFd, this.#key + KEY_KICK, EPOLLIN | EPOLLET);
        try {
          runner.start(command.ring);
        } catch (error) {
          this.#epoll?.remove(command.ring.kickFd);
          throw error;
        }
        return 0;
      case 'stop':
        // What it was kicked for comes first; the kick itself may not have been heard yet.
        runner.run();
        this.#epoll?.remove(runner.kickFd);
        return runner.stop();
      case 'quit':
        // Before the answer: the descriptor is closed then.
        this.end();
        return 0;
    }
  }

  /** It is served no longer. */
  end(): void {
    this.runner.end();
    this.#epoll?.remove(this.#data.commandFd);
  }
}
