/** What a client may hold, for tests that look for what it has left behind. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';

/** What is closed in a turn of the event loop is gone some turns later. */
const MOST_TURNS = 20;

/** Descriptors, mappings of guest memory, and what keeps the event loop busy, in this process. */
export class Holdings {
  readonly #before = held();

  /** Waits until there is no more than there was when this was made. */
  async check(what: string): Promise<void> {
    for (let i = 0; i < MOST_TURNS && this.#more().length > 0; i += 1) await turn();
    assert.deepEqual(this.#more(), [], `left behind by ${what}`);
  }

  #more(): string[] {
    const before = [...this.#before];
    return held().filter((each) => {
      const at = before.indexOf(each);
      if (at >= 0) before.splice(at, 1);
      return at < 0;
    });
  }
}

function held(): string[] {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  const mappings = maps.filter((line) => line.includes('memfd:')).map((line) => line.split(' ')[0]);
  const resources = process.getActiveResourcesInfo().filter((name) => name !== 'Immediate');
  return [...readdirSync('/proc/self/fd').map(described), ...mappings, ...resources];
}

/** '' for the descriptor by which the folder was read. */
function described(fd: string): string {
  try {
    return `${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`;
  } catch {
    return '';
  }
}
