/** The system calls that requests come down to, through the wrappers that the daemon uses, with nothing around them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  Arena,
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  close,
  coldString,
  drainEventfd,
  Epoll,
  eventfd,
  O_CLOEXEC,
  O_PATH,
  O_RDWR,
  openat,
  preadv,
  pwritev,
  signalEventfd,
  STATX_BASIC_STATS,
  statx,
  statxName,
  SysError,
} from '../../src/sys/index.ts';
import type { MicroBench, MicroGroup } from './bench.ts';

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const STATX_BYTES = 256;
const IOVEC_BYTES = 16;
const NAME_BYTES = 8;

function opened(path: string, openFlags: number): number {
  return SysError.check(openat(AT_FDCWD, coldString(path), openFlags | O_CLOEXEC, 0), 'openat', path);
}

function expect(result: number, wanted: number, call: string): void {
  if (result !== wanted) throw new Error(`${call} gave ${result}, not ${wanted}`);
}

function fileCalls(file: number, directory: number, arena: Arena): MicroBench[] {
  const { address } = arena;
  const empty = address + arena.reserve(NAME_BYTES);
  const nameAt = arena.reserve(NAME_BYTES);
  arena.u8.set(new TextEncoder().encode('file'), nameAt);
  const name = address + nameAt;
  const buffer = address + arena.reserve(STATX_BYTES);
  const open = (): void => {
    const fd = openat(directory, name, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) throw new Error(`openat gave ${fd}`);
    expect(close(fd), 0, 'close');
  };
  const statFile = (): void => expect(statx(file, empty, AT_EMPTY_PATH, STATX_BASIC_STATS, buffer), 0, 'statx');
  const statName = (): void =>
    expect(statxName(directory, address, nameAt, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, buffer), 0, 'statx');
  return [
    { name: 'call: statx of a descriptor', run: statFile },
    { name: 'call: statx of a name', run: statName },
    { name: 'call: openat, close', run: open },
  ];
}

function dataCalls(file: number, arena: Arena): MicroBench[] {
  const data = arena.address + arena.reserve(MIB);
  return (
    [
      ['4 KiB', 4 * KIB],
      ['1 MiB', MIB],
    ] as const
  ).flatMap(([size, bytes]) => {
    const at = arena.reserve(IOVEC_BYTES);
    arena.view.setBigUint64(at, BigInt(data), true);
    arena.view.setBigUint64(at + 8, BigInt(bytes), true);
    const iovec = arena.address + at;
    return [
      { name: `call: preadv ${size}`, run: () => expect(preadv(file, iovec, 1, 0, 0), bytes, 'preadv') },
      { name: `call: pwritev ${size}`, run: () => expect(pwritev(file, iovec, 1, 0, 0), bytes, 'pwritev') },
    ];
  });
}

/** How a queue's thread is woken, and how it wakes others. */
function eventCalls(signalled: number, epoll: Epoll, idle: Epoll): MicroBench[] {
  const wake = (): void => {
    expect(signalEventfd(signalled), 8, 'write to an eventfd');
    expect(epoll.wait(-1), 1, 'epoll_wait');
    expect(drainEventfd(signalled), 8, 'read from an eventfd');
  };
  const signal = (): void => {
    expect(signalEventfd(signalled), 8, 'write to an eventfd');
    expect(drainEventfd(signalled), 8, 'read from an eventfd');
  };
  return [
    { name: 'call: eventfd write, read', run: signal },
    { name: 'call: eventfd write, epoll_wait, read', run: wake },
    { name: 'call: epoll_wait, nothing ready', run: () => expect(idle.wait(0), 0, 'epoll_wait') },
  ];
}

export function openCallBenches(): MicroGroup {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-micro-'));
  const path = join(folder, 'file');
  writeFileSync(path, Buffer.alloc(MIB, 7));
  const arena = new Arena(MIB + 64 * KIB);
  const [file, directory] = [opened(path, O_RDWR), opened(folder, O_PATH)];
  const [signalled, silent] = [eventfd(), eventfd()];
  const [epoll, idle] = [new Epoll(), new Epoll()];
  epoll.add(signalled, 1);
  idle.add(silent, 1);
  const benches = [
    ...fileCalls(file, directory, arena),
    ...dataCalls(file, arena),
    ...eventCalls(signalled, epoll, idle),
  ];
  const dispose = (): void => {
    epoll.close();
    idle.close();
    for (const fd of [file, directory, signalled, silent]) close(fd);
    rmSync(folder, { recursive: true });
  };
  return { benches, [Symbol.dispose]: dispose };
}
