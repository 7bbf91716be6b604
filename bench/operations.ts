/** How many FUSE messages common operations take, counted in a guest; FORGETs apart. */
import { openScene } from '../lab/index.ts';
import { whenClosed } from './daemon-report.ts';

/** What a program does, as a shell script in the guest. */
interface Operation {
  readonly name: string;
  /** Not counted. */
  readonly before?: string;
  readonly script: string;
}

const DROP = 'sync; echo 3 > /proc/sys/vm/drop_caches';
/** So long that names and attributes of `auto` are out of date. */
const EXPIRE = 'sleep 1.2';

/** One after another, in one guest. */
export const OPERATIONS: readonly Operation[] = [
  { name: 'create+write+close', before: 'echo x > first', script: 'echo x > new' },
  { name: 'stat, known', before: 'stat one > /dev/null', script: 'stat one > /dev/null' },
  { name: 'stat, expired', before: `stat one > /dev/null; ${EXPIRE}`, script: 'stat one > /dev/null' },
  { name: 'cat small, first', before: DROP, script: 'cat one > /dev/null' },
  { name: 'cat small, again', before: 'cat one > /dev/null', script: 'cat one > /dev/null' },
  { name: 'mv', before: 'stat one > /dev/null', script: 'mv one two' },
  { name: 'rm', before: 'stat two > /dev/null', script: 'rm two' },
  { name: 'ls -l 100, first', before: DROP, script: 'ls -l hundred > /dev/null' },
  { name: 'ls -l 100, again', before: 'ls -l hundred > /dev/null', script: 'ls -l hundred > /dev/null' },
  { name: 'ls -l 100, expired', before: EXPIRE, script: 'ls -l hundred > /dev/null' },
  { name: 'cat 100, first', before: DROP, script: 'cat hundred/* > /dev/null' },
  { name: 'cat 100, again', before: 'cat hundred/* > /dev/null', script: 'cat hundred/* > /dev/null' },
  { name: 'append', before: 'cat log > /dev/null', script: 'echo x >> log' },
  { name: 'cp 3 MB', before: 'cat big > /dev/null', script: 'cp big copy' },
];

/** Messages of each operation, by its name. */
export async function countMessages(cache: string): Promise<Map<string, number>> {
  const prepare = 'echo 1 > one; echo log > log; mkdir hundred; for i in $(seq 100); do echo $i > hundred/$i; done';
  const scene = await openScene({ cache, kernel: '6.12' });
  const results = new Map<string, number>();
  try {
    await scene.host.sh(`${prepare}; head -c 3000000 /dev/urandom > big`);
    for (const { name, before, script } of OPERATIONS) {
      if (before !== undefined) await scene.vm.sh(`cd /mnt/share; ${before}`);
      const messages = await whenClosed(scene.daemon);
      await scene.vm.sh(`cd /mnt/share; ${script}`);
      results.set(name, (await whenClosed(scene.daemon)) - messages);
    }
    await scene.close();
  } finally {
    await scene.abandon();
  }
  return results;
}
