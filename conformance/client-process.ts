/** A second process on a share: another guest, with a connection of its own and in the same thread. */
import { type MountedVolume, type Running, ShareError, finished, join, start } from '../src/client/index.ts';
import { ClientFace } from './client-face.ts';
import type { Face, Other, OtherCall } from './face.ts';
import { failure, NotApplicable } from './verdicts.ts';

export class ClientProcess implements Other {
  readonly #volume: MountedVolume;
  readonly #face: ClientFace;
  #running: Running<unknown> | undefined;

  constructor(volume: MountedVolume) {
    this.#volume = volume;
    this.#face = new ClientFace(volume, () => {
      throw new NotApplicable('there is no third process');
    });
  }

  /** Without what a behaviour left open; paths are below `base` from now on. */
  at(base: string): this {
    try {
      if (this.#running !== undefined) this.finish();
    } catch {
      // Whatever came of what nobody has waited for.
    }
    this.#face.settle();
    this.#face.base = base;
    return this;
  }

  call<K extends OtherCall>(name: K, ...args: Parameters<Face[K]>): ReturnType<Face[K]> {
    const method = this.#face[name] as (this: Face, ...given: Parameters<Face[K]>) => ReturnType<Face[K]>;
    return method.apply(this.#face, args);
  }

  start<K extends OtherCall>(name: K, ...args: Parameters<Face[K]>): void {
    if (name !== 'lock') throw new NotApplicable(`the client has no ${name} that waits`);
    const [fd, , lock] = args as Parameters<Face['lock']>;
    const running = start(this.#face.lockLater(fd, lock));
    // Requests of one queue are looked at in order: what is answered now comes after it.
    finished(this.#volume.statfs('/'), () => this.#volume.idle());
    if (running.settled) throw new Error('the lock was not waited for');
    this.#running = running;
  }

  finish(): unknown {
    const running = this.#running;
    if (running === undefined) throw new Error('nothing was started');
    this.#running = undefined;
    try {
      return finished(join(running), () => this.#volume.idle());
    } catch (error) {
      throw error instanceof ShareError ? failure(error.syscall, -error.errno, '') : error;
    }
  }
}
