import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Daemon } from '../lab/index.ts';

/** What a daemon says of itself on SIGUSR1. */
export interface Report {
  /** Requests so far, by opcode. */
  readonly requests: ReadonlyMap<string, number>;
  /** All of them, but for FORGET: what a program in the guest had to wait for. */
  readonly messages: number;
  /** Inodes, descriptors and handles now: its last line. */
  readonly gauges: string;
}

/** Asks a daemon what it did so far. */
export async function report(daemon: Daemon): Promise<Report> {
  const from = daemon.output.length;
  daemon.signal('SIGUSR1');
  let gauges: RegExpMatchArray | null = null;
  while (gauges === null) {
    if (daemon.ended !== undefined) throw new Error(`the daemon has ended\n${daemon.output}`);
    await nextTurn();
    gauges = daemon.output.slice(from).match(/^inodes .*(?=\n)/m);
  }
  const rows = daemon.output.slice(from).matchAll(/^([A-Z_0-9]+) +(\d+)/gm);
  const requests = new Map([...rows].map(([, name, count]) => [name, Number(count)]));
  const all = requests.values().reduce((sum, count) => sum + count, 0);
  return { requests, messages: all - (requests.get('FORGET') ?? 0), gauges: gauges[0] };
}

/** Its messages when nothing is open in the guest any more: for the answer to a RELEASE no program waits. */
export async function whenClosed(daemon: Daemon): Promise<number> {
  while (!(await report(daemon)).gauges.endsWith('handles 0'));
  return (await report(daemon)).messages;
}
