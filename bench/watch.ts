/** What a measurement costs: CPU time on the host, messages and memory in the guest. */
import { readdirSync, readFileSync } from 'node:fs';

import type { Daemon, Vm } from '../lab/index.ts';

/** FORGET and BATCH_FORGET: nobody waits for them. */
const FORGETS = [2, 42];
const TRACING = '/sys/kernel/tracing';
const FUSE = `${TRACING}/events/fuse/fuse_request_send`;
const NINE_P = `${TRACING}/events/9p/9p_client_req`;

/** Thread groups of a process and of all that it started: /proc/PID/task/TID/children. */
function* familyOf(pid: number): Generator<number> {
  yield pid;
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const children = readFileSync(`/proc/${pid}/task/${tid}/children`, 'latin1').trim();
    for (const child of children === '' ? [] : children.split(' ')) yield* familyOf(Number(child));
  }
}

/** What a daemon's threads have run, in seconds: /proc/PID/task/TID/schedstat. */
export function cpuSeconds({ pid }: Daemon): number {
  let ns = 0;
  for (const process of familyOf(pid)) {
    for (const tid of readdirSync(`/proc/${process}/task`)) {
      ns += Number(readFileSync(`/proc/${process}/task/${tid}/schedstat`, 'latin1').split(' ')[0]);
    }
  }
  return ns / 1e9;
}

/** One row of a tracepoint's histogram with one key. */
export interface HistogramRow {
  readonly key: string;
  readonly value: number;
  readonly count: number;
}

/** The rows of tracefs histograms: `{ opcode:         44 } hitcount:          1`. */
export function parseHistogram(text: string): HistogramRow[] {
  const rows = text.matchAll(/^\{ (\w+): +(\d+) \} hitcount: +(\d+)/gm);
  return [...rows].map(([, key, value, count]) => ({ key, value: Number(value), count: Number(count) }));
}

/** What a guest has sent to all FUSE and 9p servers, and what of its memory is in use, caches included. */
export interface GuestUse {
  /** FORGETs apart. */
  readonly messages: number;
  readonly memoryBytes: number;
}

/** Has a guest count what it sends. */
export async function countMessages(vm: Vm): Promise<void> {
  await vm.sh(
    `[ -d ${TRACING}/events ] || mount -t tracefs none ${TRACING}
     echo 'hist:keys=opcode' > ${FUSE}/trigger
     if [ -d ${NINE_P} ]; then echo 'hist:keys=type' > ${NINE_P}/trigger; fi`,
  );
}

/** Since `countMessages`. */
export async function guestUse(vm: Vm): Promise<GuestUse> {
  const text = await vm.sh(`cat ${FUSE}/hist /proc/meminfo; if [ -d ${NINE_P} ]; then cat ${NINE_P}/hist; fi`);
  const messages = parseHistogram(text)
    .filter(({ key, value }) => key !== 'opcode' || !FORGETS.includes(value))
    .reduce((sum, { count }) => sum + count, 0);
  const kib = (name: string): number => Number(text.match(new RegExp(`^${name}: +(\\d+) kB`, 'm'))?.[1]);
  return { messages, memoryBytes: (kib('MemTotal') - kib('MemFree')) * 1024 };
}
