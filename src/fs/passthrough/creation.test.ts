import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Arena, AT_FDCWD, close, coldString, O_CREAT, O_WRONLY, openat } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';
import { Creation } from './creation.ts';
import { HostNames } from './host-names.ts';
import { parseXattrMap, XattrMap } from './xattr-map.ts';

/** What SELinux would be told of a file that is created with a label, and what is left to set afterwards. */
function told(key: string, rules?: string): { announced: string; labelled: number; left: number } {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-label-'));
  const path = join(folder, 'fscreate');
  const fd = openat(AT_FDCWD, coldString(path), O_WRONLY | O_CREAT, 0o600);
  const arena = new Arena(8192);
  const contexts = arena.reserve(512);
  arena.view.setUint32(contexts, 7, true);
  arena.u8.set(Buffer.from(`${key}\0guest_t`), contexts + 8);
  const request = { scratch: arena, contexts, contextCount: 1 } as unknown as Request;
  let left = 0;
  const context = {
    credentials: { enter: () => 0, leave: () => (left += 1) },
    hostNames: new HostNames(arena, rules === undefined ? undefined : new XattrMap(parseXattrMap(rules)), false),
    empty: arena.address,
    // A file that is not there: to set an attribute of it fails.
    procPath: arena.address + arena.reserve(8),
    writeProcPathOf: () => undefined,
  } as unknown as Context;
  const creation = new Creation(context, true, fd);
  assert.equal(creation.begin(request, 0, 0), 0);
  creation.end();
  const labelled = creation.label(request, -1);
  const announced = readFileSync(path, 'utf8');
  close(fd);
  rmSync(folder, { recursive: true });
  return { announced, labelled, left };
}

test('where the host has SELinux it is told the label before the file is there, and nothing is set afterwards', () => {
  assert.deepEqual(told('security.selinux'), { announced: 'guest_t', labelled: 0, left: 1 });
});

test('labels that SELinux would not understand are set afterwards', () => {
  const { announced, labelled } = told('security.smack');
  assert.ok(announced === '' && labelled < 0);
  const mapped = told('security.selinux', ':map::user.virtiofs.:');
  assert.ok(mapped.announced === '' && mapped.labelled < 0);
});
