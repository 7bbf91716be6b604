/** Two clients of ours and a real guest on one directory: who sees what, and when, by cache mode. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';

import { removeAtExit } from '../lab/cleanup.ts';
import { scenes, type SceneOptions, type Vm } from '../lab/index.ts';
import { connect, type ConnectOptions, promised, type Share } from '../src/client/index.ts';
import { lensRefusal } from '../src/coherence/index.ts';

const F_WRLCK = 1;
const F_UNLCK = 2;
const TO_THE_END = 2n ** 63n - 1n;

/** Sockets for clients, beside the guest's. */
function clientSockets(): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-clients-'));
  after(removeAtExit(folder));
  return ['one', 'two'].map((name) => join(folder, name));
}

const at = (vm: Vm, command: string): Promise<string> => vm.sh(`cd /mnt/share; ${command}`);

/** Scenes with a guest and two clients of its daemon. */
function stage(
  title: string,
  options: SceneOptions & { readonly clients?: ConnectOptions },
  body: (scene: Parameters<Parameters<typeof scenes>[2]>[0], clients: () => Promise<[Share, Share]>) => void,
): void {
  const sockets = clientSockets();
  const { clients: clientOptions = {}, ...others } = options;
  const daemonArgs = [...(options.daemonArgs ?? []), ...sockets.flatMap((path) => ['--socket-path', path])];
  let shares: Promise<[Share, Share]> | undefined;
  const clients = (): Promise<[Share, Share]> => {
    shares ??= Promise.all([connect(sockets[0], clientOptions), connect(sockets[1], clientOptions)]);
    return shares;
  };
  scenes(title, { ...others, daemonArgs }, (scene) => {
    body(scene, clients);
    scene('and all take their leave', async () => {
      for (const share of await clients()) await share.close();
    });
  });
}

stage('two clients and a guest, --cache never', { cache: 'never', daemonArgs: ['--posix-locks'] }, (scene, clients) => {
  scene('what one writes, makes, renames and removes is so for the others at once', async ({ vm, host }) => {
    const [one, two] = await clients();
    for (const text of ['a', 'other', 'b']) {
      await at(vm, `printf ${text} > file`);
      assert.equal(await one.readFile('/file', 'utf8'), text);
      await one.writeFile('/file', `${text} by one`);
      assert.equal(await two.readFile('/file', 'utf8'), `${text} by one`);
      assert.equal(await at(vm, 'cat file; stat -c " %s" file'), `${text} by one ${text.length + 7}`);
    }
    await two.rename('/file', '/renamed');
    assert.equal(await at(vm, 'ls'), 'renamed');
    assert.deepEqual(await one.readdir('/'), ['renamed']);
    await host.sh('rm renamed');
    await assert.rejects(one.stat('/renamed'), { code: 'ENOENT' });
    assert.equal(await at(vm, 'ls'), '');
  });

  scene("a client's lock keeps the other client out until it is given up", async ({ vm }) => {
    const [one, two] = await clients();
    await at(vm, 'touch locked');
    const files = await promised(one.volume.open('/locked', 2));
    const others = await promised(two.volume.open('/locked', 2));
    const lock = { type: F_WRLCK, start: 0n, end: TO_THE_END, pid: process.pid };
    await promised(files.setLock(lock, false));
    await assert.rejects(promised(others.setLock(lock, false)), { code: 'EAGAIN', syscall: 'fcntl' });
    assert.equal((await promised(others.getLock(lock))).type, F_WRLCK);
    const waiting = promised(others.setLock(lock, true));
    await promised(files.setLock({ ...lock, type: F_UNLCK }, false));
    await waiting;
    await promised(files.close());
    await promised(others.close());
  });
});

stage('two clients and a guest, --cache auto', { cache: 'auto' }, (scene, clients) => {
  scene('what one has written and closed the others read when they open it anew', async ({ vm }) => {
    const [one, two] = await clients();
    for (const text of ['first one', 'other one', 'third one']) {
      await at(vm, `printf '${text}' > file`);
      assert.equal(await one.readFile('/file', 'utf8'), text);
      assert.equal(await two.readFile('/file', 'utf8'), text);
      const changed = text.replace('one', 'two');
      await one.writeFile('/file', changed);
      assert.equal(await two.readFile('/file', 'utf8'), changed);
      assert.equal(await at(vm, 'cat file'), changed);
    }
  });

  scene('a name that the guest has removed is gone for the clients within its second', async ({ vm }) => {
    const [one, two] = await clients();
    await one.writeFile('/name', '');
    await two.stat('/name');
    await at(vm, 'rm name');
    for (const share of [one, two]) {
      for (;;) {
        try {
          await share.stat('/name');
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'ENOENT');
          break;
        }
      }
    }
  });
});

const DAX = { dax: '8M', daxFiles: 'always' } as const;

if (lensRefusal() === undefined) {
  stage(
    'two clients and a guest, --cache always, mapped',
    { cache: 'always', daxWindow: '8M', mountOptions: 'dax=always', clients: DAX },
    (scene, clients) => {
      scene('data is one and the same memory for all', async ({ vm, host }) => {
        await host.sh('head -c 3000000 /dev/zero > file');
        const [one, two] = await clients();
        const files = [await one.open('/file', 'r+'), await two.open('/file', 'r+')];
        await at(vm, 'exec 3<> file; dd bs=5 count=1 <&3 > /dev/null 2>&1');
        const buffer = Buffer.alloc(5);
        for (const [i, place] of [0, 4095, 2_097_150, 2_999_995].entries()) {
          await files[0].write(Buffer.from(`one ${i}`), 0, 5, place);
          assert.equal((await files[1].read(buffer, 0, 5, place)).buffer.toString(), `one ${i}`);
          assert.equal(await at(vm, `dd if=file bs=1 skip=${place} count=5 2>/dev/null`), `one ${i}`);
          await at(vm, `printf 'vm. ${i}' | dd of=file bs=1 seek=${place} conv=notrunc 2>/dev/null`);
          for (const file of files) {
            assert.equal((await file.read(buffer, 0, 5, place)).buffer.toString(), `vm. ${i}`);
          }
          assert.equal(readFileSync(host.path('file'), 'latin1').slice(place, place + 5), `vm. ${i}`);
        }
        for (const file of files) await file.close();
      });

      scene('what a client makes shorter ends no VM that has it mapped, and no client', async ({ vm }) => {
        const [one, two] = await clients();
        assert.equal(await at(vm, 'cat file | wc -c'), '3000000');
        assert.equal((await two.readFile('/file')).length, 3_000_000);
        await one.truncate('/file', 100);
        assert.match(await at(vm, 'cat file | wc -c'), /^(3000000|100)$/);
        assert.ok((await two.readFile('/file')).length >= 100);
        assert.equal((await one.readFile('/file')).length, 100);
      });
    },
  );
}
