/** What changes when guests collect writes. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { ENOSYS } from '../src/core/index.ts';
import { flags, LseekIn, LseekOut, opcodes } from '../src/fuse/index.ts';
import { O_RDONLY } from '../src/sys/index.ts';
import { commonDaemon } from './daemon.ts';
import { body } from './fuse.ts';
import { Mount, ownFolder } from './mount.ts';

const SEEK_DATA = 3;
const args = ['--stay', '--cache', 'auto', '--log-level', 'error'];
const through = commonDaemon({ args });
const collecting = commonDaemon({ args: [...args, '--writeback'] });

test('a guest that has data which the host has not is not told where the host has holes', (t) => {
  for (const [daemon, errno] of [
    [through(), 0],
    [collecting(), ENOSYS],
  ] as const) {
    const mount = Mount.connect(daemon.socketPath);
    t.after(() => mount.guest.close());
    const { path, nodeid } = ownFolder(daemon, mount);
    writeFileSync(join(path, 'file'), 'data');
    const file = mount.lookup(nodeid, 'file').nodeid;
    const fh = mount.open(file, O_RDONLY);
    const seek = { opcode: opcodes.LSEEK.code, nodeid: file, body: body(LseekIn, { fh, whence: SEEK_DATA }) };
    const reply = mount.guest.ask(seek, errno);
    assert.equal(reply.byteLength, errno === 0 ? LseekOut.bytes : 0);
  }
});

test('what a guest that has the times of files calls now is by its clock, for atime as for mtime', (t) => {
  const mount = Mount.connect(collecting().socketPath);
  t.after(() => mount.guest.close());
  const { path, nodeid } = ownFolder(collecting(), mount);
  writeFileSync(join(path, 'file'), '');
  const file = mount.lookup(nodeid, 'file').nodeid;
  const { ATIME, ATIME_NOW, MTIME, CTIME } = flags.FATTR;
  const now = { atime: 5, atimensec: 6, mtime: 5, mtimensec: 6, ctime: 5, ctimensec: 6 };
  const { atimeNs, mtimeNs } = mount.setattr(file, { valid: ATIME | ATIME_NOW | MTIME | CTIME, ...now });
  assert.deepEqual([atimeNs, mtimeNs], [5_000_000_006n, 5_000_000_006n]);
});
