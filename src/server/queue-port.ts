import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';

import { close, eventfd, signalEventfd } from '../sys/index.ts';
import { type MappedRegion, type RingSetup, VhostError } from '../vhost/index.ts';
import {
  ANSWER_COUNT,
  ANSWER_FAILED,
  ANSWER_RESULT,
  ANSWER_STARTED,
  ANSWERS_WORDS,
  type QueueCommand,
  type ToMain,
} from './threads.ts';

/** A request queue as its session sees it: commands to the thread that serves it, which return when they are done. */
export class QueuePort {
  readonly #port: MessagePort;
  readonly #commandFd = eventfd();
  readonly #answers: Int32Array<SharedArrayBuffer> = new Int32Array(new SharedArrayBuffer(ANSWERS_WORDS * 4));
  #commands = 0;

  /** `ask` has the main thread give the queue to a thread: only there are its errors and its end heard of. */
  constructor(session: number, queue: number, ask: (message: ToMain, transfer: MessagePort[]) => void) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const answers = this.#answers.buffer;
    ask({ kind: 'open-queue', session, queue, commands: port2, commandFd: this.#commandFd, answers }, [port2]);
  }

  setMemory(regions: readonly MappedRegion[]): void {
    this.#call({ kind: 'memory', regions });
  }

  start(ring: RingSetup): void {
    this.#call({ kind: 'start', ring });
  }

  stop(): number {
    return this.#call({ kind: 'stop' });
  }

  /** The queue is not needed any more. */
  quit(): void {
    this.#post({ kind: 'quit' });
  }

  /** After `quit`: waits until the thread has let go of the queue, `timeoutMs` at most. */
  awaitQuit(timeoutMs: number): void {
    const started = Atomics.load(this.#answers, ANSWER_STARTED) === 1;
    if (started && this.#await(timeoutMs)) close(this.#commandFd);
    this.#port.close();
  }

  #post(command: QueueCommand): void {
    this.#commands += 1;
    this.#port.postMessage(command);
    signalEventfd(this.#commandFd);
  }

  #await(timeoutMs: number): boolean {
    const answers = this.#answers;
    for (let done = Atomics.load(answers, ANSWER_COUNT); done !== this.#commands; ) {
      if (Atomics.wait(answers, ANSWER_COUNT, done, timeoutMs) === 'timed-out') return false;
      done = Atomics.load(answers, ANSWER_COUNT);
    }
    return true;
  }

  /** Throws VhostError('RING') with what the thread found wrong. */
  #call(command: QueueCommand): number {
    this.#post(command);
    this.#await(Number.POSITIVE_INFINITY);
    if (this.#answers[ANSWER_FAILED] === 0) return this.#answers[ANSWER_RESULT];
    throw new VhostError('RING', String(receiveMessageOnPort(this.#port)?.message));
  }
}
