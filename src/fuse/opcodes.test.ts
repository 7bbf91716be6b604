import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OPCODE_COUNT, OPCODES, opcodeName } from './opcodes.ts';
import * as opcodes from './opcodes.ts';

const records = OPCODES.filter((each) => each !== undefined);

test('every record is found by its number, and every exported record is in the table', () => {
  assert.equal(OPCODES.length, OPCODE_COUNT);
  for (const [code, record] of OPCODES.entries()) assert.equal(record?.code ?? code, code);
  const exported = Object.values(opcodes).filter((each) => typeof each === 'object' && 'reply' in each);
  assert.deepEqual(new Set(exported), new Set(records));
});

test('replies have the exact lengths that the kernel waits for', () => {
  assert.equal(opcodes.LOOKUP.outBytes, 128);
  assert.equal(opcodes.CREATE.outBytes, 144);
  assert.equal(opcodes.TMPFILE.outBytes, 144);
  assert.equal(opcodes.GETATTR.outBytes, 104);
  assert.equal(opcodes.OPEN.outBytes, 16);
  assert.equal(opcodes.WRITE.outBytes, 8);
  assert.equal(opcodes.STATFS.outBytes, 80);
  assert.equal(opcodes.INIT.outBytes, 64);
  for (const record of records) assert.equal(record.outBytes > 0, record.reply === 'struct', record.name);
});

test('only FORGET, BATCH_FORGET and INTERRUPT belong on the hiprio queue, and none of them is answered', () => {
  const hiprio = records.filter((each) => each.hiprio);
  assert.deepEqual(
    hiprio.map((each) => each.name),
    ['FORGET', 'INTERRUPT', 'BATCH_FORGET'],
  );
  for (const record of hiprio) assert.equal(record.reply, 'none');
});

test('a handle in the body is found where the struct has it', () => {
  assert.equal(opcodes.READ.fhOffset, 0);
  assert.equal(opcodes.GETATTR.fhOffset, 8);
  assert.equal(opcodes.COPY_FILE_RANGE.fhOffset, 0);
  assert.equal(opcodes.LOOKUP.file, 'none');
  assert.equal(opcodes.OPEN.file, 'none');
  assert.equal(opcodes.RELEASE.file, 'fh');
});

test('INIT and SETXATTR take the shorter bodies of older guests, the others their whole struct', () => {
  assert.equal(opcodes.INIT.inBytes, 8);
  assert.equal(opcodes.SETXATTR.inBytes, 8);
  for (const record of records) {
    if (record.name === 'INIT' || record.name === 'SETXATTR') continue;
    assert.equal(record.inBytes, record.in?.bytes ?? 0, record.name);
  }
});

test('names of opcodes are for people, unknown ones too', () => {
  assert.equal(opcodeName(15), 'READ');
  assert.equal(opcodeName(7), 'opcode 7');
  assert.equal(opcodeName(4_000_000_000), 'opcode 4000000000');
});
