/** Locks between two real guests, and SQLite, which depends on them. Needs sqlite3 and flock for the guests. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { report } from '../bench/daemon-report.ts';
import { type Daemon, fetchTools, type Scene, scenes, type Vm } from '../lab/index.ts';
import { lensRefusal } from '../src/coherence/index.ts';

const MINUTE_MS = 60_000;
/** Transactions of each guest. */
const TRANSACTIONS = 60;
const BATCH = 20;

const PRAGMAS = {
  rollback: 'PRAGMA journal_mode=DELETE;',
  shared: 'PRAGMA journal_mode=WAL;',
  wal: 'PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;',
};

/** Until the daemon's gauges end so: for a RELEASE, and what goes with it, no guest waits. */
async function awaitGauges(daemon: Daemon, end: string): Promise<void> {
  for (let now = ''; !now.endsWith(end); now = (await report(daemon)).gauges);
}

const awaitWaiting = (daemon: Daemon, count: number): Promise<void> => awaitGauges(daemon, `waiting ${count}`);

/** A lock that is held in a guest by flock and by the process `pid`, until it is let go. */
interface Held {
  readonly pid: string;
  readonly letGo: () => Promise<void>;
}

async function hold(vm: Vm, flock: string): Promise<Held> {
  await vm.sh('rm -f /tmp/held /tmp/go; mkfifo /tmp/held /tmp/go');
  const holding = vm.run(`${flock} sh -c 'echo $$ > /tmp/held; exec cat /tmp/go'`);
  const pid = await vm.sh('cat /tmp/held');
  const letGo = async (): Promise<void> => {
    await vm.sh('echo go > /tmp/go');
    assert.equal((await holding).code, 0);
  };
  return { pid, letGo };
}

/** A writer of rows, `BATCH` transactions a process; with `turns` one process at a time opens the database. */
function writer(who: string, db: string, pragmas: string, turns: boolean): string {
  const lock = turns ? `flock ${db}.turn ` : '';
  return `
    n=0
    while [ $n -lt ${TRANSACTIONS} ]; do
      { echo "${pragmas}"; i=0
        while [ $i -lt ${BATCH} ]; do
          i=$((i+1))
          echo "BEGIN IMMEDIATE; INSERT INTO rows(who, n) VALUES('${who}', $((n+i))); COMMIT;"
        done
      } > /tmp/statements
      n=$((n + ${BATCH}))
      ${lock}sqlite3 -bail -cmd '.timeout 60000' ${db} < /tmp/statements > /dev/null || exit 1
    done`;
}

async function writeFromBoth({ vms }: Scene, db: string, pragmas: string, turns: boolean): Promise<void> {
  const path = `/mnt/share/${db}`;
  const sql = (vm: Vm, statements: string): Promise<string> =>
    vm.sh(`sqlite3 -cmd '.timeout 60000' ${path} "${pragmas} ${statements}" | tail -n 3`);
  await sql(vms[0], 'CREATE TABLE rows(id INTEGER PRIMARY KEY, who TEXT, n INTEGER);');
  const options = { timeoutMs: 5 * MINUTE_MS };
  await Promise.all(vms.map((vm, i) => vm.sh(writer(`guest${i}`, path, pragmas, turns), options)));
  const check = 'PRAGMA integrity_check; SELECT who, count(*), count(DISTINCT n) FROM rows GROUP BY who ORDER BY who;';
  const expected = `ok\nguest0|${TRANSACTIONS}|${TRANSACTIONS}\nguest1|${TRANSACTIONS}|${TRANSACTIONS}`;
  // One after the other: with WAL each has the database to itself.
  for (const vm of vms) assert.equal(await sql(vm, check), expected);
}

const found = await fetchTools(['sqlite3', 'util-linux']).catch((error: unknown) => error as Error);
const GUESTS = { guests: 2, cache: 'never', daemonArgs: ['--posix-locks', '--flock'] };

if (found instanceof Error) {
  test('locks between two guests', { skip: `no sqlite3 and flock for the guests: ${found.message}` });
} else {
  scenes('two guests with --posix-locks and --flock', { ...GUESTS, tools: found.tree }, (scene) => {
    scene(
      'a flock lock of one guest keeps the other out, which waits for it and goes on with all else',
      async (stage) => {
        const [one, two] = stage.vms;
        const { letGo } = await hold(one, 'flock /mnt/share/lock');
        assert.equal((await two.run('flock -n /mnt/share/lock true')).code, 1);
        assert.equal((await two.run('flock -n -s /mnt/share/lock true')).code, 1);
        assert.equal((await one.run('flock -n /mnt/share/lock true')).code, 1);
        const waiting = two.sh('flock /mnt/share/lock sh -c "echo mine > /mnt/share/said"');
        await awaitWaiting(stage.daemon, 1);
        assert.equal(await two.sh('cd /mnt/share; echo on > own; cat own; ls said 2>/dev/null || true'), 'on');
        await letGo();
        await waiting;
        assert.equal(readFileSync(stage.host.path('said'), 'utf8'), 'mine\n');
      },
    );

    scene('a guest that waits for a lock does so over stop and cont of its VM', async (stage) => {
      const [one, two] = stage.vms;
      const { letGo } = await hold(one, 'flock /mnt/share/other');
      const waiting = two.sh('flock /mnt/share/other sh -c "echo mine > /mnt/share/late"');
      await awaitWaiting(stage.daemon, 1);
      await two.qmp('stop');
      await letGo();
      assert.ok((await report(stage.daemon)).gauges.endsWith('waiting 1'));
      await two.qmp('cont');
      await waiting;
      assert.equal(readFileSync(stage.host.path('late'), 'utf8'), 'mine\n');
    });

    scene('SQLite with a rollback journal loses no transaction of two guests that write at once', async (stage) => {
      await writeFromBoth(stage, 'rollback.db', PRAGMAS.rollback, false);
    });

    scene(
      'SQLite with a write-ahead log loses none where each guest has the database to itself in turn',
      async (stage) => {
        await writeFromBoth(stage, 'wal.db', PRAGMAS.wal, true);
      },
    );

    scene('SQLite refuses a write-ahead log that it would have to share, without --allow-mmap', async ({ vm }) => {
      const { code, stderr } = await vm.run(
        'sqlite3 /mnt/share/shared.db "PRAGMA journal_mode=WAL; CREATE TABLE rows(id INTEGER);"',
      );
      assert.notEqual(code, 0);
      assert.match(stderr, /disk I\/O error/);
    });

    scene('a process that ends has no locks any more', async (stage) => {
      const [one, two] = stage.vms;
      const { pid } = await hold(one, 'flock /mnt/share/killed');
      await one.sh(`kill -9 $(pidof flock) ${pid}`);
      await two.sh('flock /mnt/share/killed true');
      await awaitGauges(stage.daemon, 'lockOwners 0, waiting 0');
    });
  });

  const refusal = lensRefusal();
  const sharing = 'two guests with --posix-locks that map *-shm';
  if (refusal !== undefined) {
    test(sharing, { skip: refusal });
  } else {
    const daemonArgs = ['--posix-locks', '--dax-name', '*-shm'];
    scenes(sharing, { ...GUESTS, daxWindow: '64M', daemonArgs, tools: found.tree }, (scene) => {
      scene('SQLite with a write-ahead log loses none of two guests that write at once', async (stage) => {
        await writeFromBoth(stage, 'shared.db', PRAGMAS.shared, false);
      });
    });
  }
}
