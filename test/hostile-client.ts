/** What a client may hold, for tests that look for what it has left behind. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';

/** What is closed in a turn of the event loop is gone some turns later. */
const MOST_TURNS = 20;

/** Descriptors, mappings of guest memory, and what keeps the event loop busy, in this process. */
export class Holdings {
  readonly #before = held();

  /** Waits until there is no more than there was when this was made. */
  async check(what: string): Promise<void> {
    for (let i = 0; i < MOST_TURNS; i += 1) {
      if (JSON.stringify(held()) === JSON.stringify(this.#before)) return;
      await turn();
    }
    assert.deepEqual(held(), this.#before, `left behind by ${what}`);
  }
}

function held(): object {
  const maps = readFileSync('/proc/self/maps', 'utf8');
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    mappings: maps.split('\n').filter((line) => line.includes('memfd:')).length,
    resources: process
      .getActiveResourcesInfo()
      .filter((name) => name !== 'Immediate')
      .toSorted(),
  };
}
