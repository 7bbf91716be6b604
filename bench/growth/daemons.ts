/** Daemons for so many sockets on one folder: one process of ours, or one of Rust virtiofsd for each. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';

import { type Daemon, removeAtExit, startDaemon } from '../../lab/index.ts';

/** Threads of 64 sessions take their time. */
const READY_LIMIT_MS = 120_000;
/**
 * Known files keep a handle instead of a descriptor, as with ours, where this user has the capability that it takes.
 * Without a sandbox, as ours runs here.
 */
const HANDLES = process.geteuid?.() === 0 ? ['--inode-file-handles=prefer', '--modcaps=+dac_read_search'] : [];
const PEER_ARGS = ['--sandbox', 'none', ...HANDLES];

export class Daemons implements AsyncDisposable {
  readonly processes: Daemon[] = [];
  readonly socketPaths: readonly string[];
  readonly #remove: () => void;

  private constructor(socketPaths: readonly string[], remove: () => void) {
    this.socketPaths = socketPaths;
    this.#remove = remove;
  }

  /** `peer`: the command line of Rust virtiofsd; absent: ours. */
  static async start(share: string, parent: string, count: number, peer?: readonly string[]): Promise<Daemons> {
    const folder = mkdtempSync(join(parent, 'sockets-'));
    const socketPaths = Array.from({ length: count }, (_, i) => join(folder, `${i}`));
    const daemons = new Daemons(socketPaths, removeAtExit(folder));
    const common = { sharedDir: share, cache: 'auto', readyLimitMs: READY_LIMIT_MS };
    try {
      if (count === 0) return daemons;
      if (peer === undefined) daemons.processes.push(await startDaemon({ ...common, socketPaths }));
      else {
        for (const path of socketPaths) {
          const options = { ...common, socketPaths: [path], command: peer, args: PEER_ARGS };
          daemons.processes.push(await startDaemon(options));
        }
      }
      return daemons;
    } catch (error) {
      await daemons[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.processes.map((each) => each.stop()));
    this.#remove();
  }
}
