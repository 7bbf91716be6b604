import type { Duplex } from 'node:stream';
import { LabError } from './errors.ts';
import { eachLine } from './exec.ts';

/** An event of QEMU, such as SHUTDOWN or RESET. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: Record<string, unknown>;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

interface Message {
  QMP?: unknown;
  event?: string;
  data?: Record<string, unknown>;
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
}

/** QEMU's machine protocol on a connected stream: JSON, one message a line. */
export class Qmp {
  readonly #stream: Duplex;
  readonly #waiting = new Map<number, Waiting>();
  readonly #onEvent: (event: QmpEvent) => void;
  #nextId = 1;
  /** Resolves when QEMU takes commands: all its devices exist then. */
  readonly ready: Promise<void>;

  constructor(stream: Duplex, onEvent: (event: QmpEvent) => void = () => {}) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    const greeting = Promise.withResolvers<void>();
    this.ready = greeting.promise;
    // Nobody may be waiting for it when QEMU ends early.
    this.ready.catch(() => {});
    eachLine(stream, (line) => {
      const message = JSON.parse(line) as Message;
      if (message.QMP !== undefined) this.command('qmp_capabilities').then(() => greeting.resolve(), greeting.reject);
      else this.#take(message);
    });
    const over = (): void => {
      const error = new LabError('EXITED', 'QEMU closed its control connection');
      greeting.reject(error);
      for (const waiting of this.#waiting.values()) waiting.reject(error);
      this.#waiting.clear();
    };
    stream.on('close', over);
    stream.on('error', over);
  }

  /** @throws LabError `QMP` with QEMU's own words. */
  command(execute: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      if (this.#stream.destroyed) return reject(new LabError('EXITED', 'QEMU has ended'));
      this.#waiting.set(id, { resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute, arguments: args, id })}\n`);
    });
  }

  #take(message: Message): void {
    if (message.event !== undefined) this.#onEvent({ event: message.event, data: message.data });
    if (message.id === undefined) return;
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error) waiting?.reject(new LabError('QMP', `${message.error.class}: ${message.error.desc}`));
    else waiting?.resolve(message.return);
  }
}
