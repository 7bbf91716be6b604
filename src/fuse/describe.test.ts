import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AnyStruct } from '../wire/index.ts';
import {
  Attr,
  type Caught,
  describe,
  describeLine,
  type DescribeOptions,
  type Description,
  encodeDirent,
  encodeDirentplus,
  EntryOut,
  flags,
  InHeader,
  OPCODES,
  type Opcode,
  opcodes,
  OutHeader,
  printable,
} from './index.ts';

const encoder = new TextEncoder();
const UNIQUE = 12n;

type Numbers = Readonly<Record<string, number | bigint>>;

/** The bytes of a struct; fields of structs inside as `attr.mode`. */
function packed(struct: AnyStruct | null, numbers: Numbers = {}): Uint8Array {
  const view = new DataView(new ArrayBuffer(struct?.bytes ?? 0));
  for (const [key, value] of Object.entries(numbers)) {
    const found = struct?.layout.find(({ name }) => name === key);
    assert.ok(found, `${struct?.cname} has no field ${key}`);
    const bits = BigInt.asUintN(64, BigInt(value));
    if (found.bytes === 8) view.setBigUint64(found.offset, bits, true);
    else if (found.bytes === 4) view.setUint32(found.offset, Number(bits & 0xffff_ffffn), true);
    else view.setUint16(found.offset, Number(bits), true);
  }
  return new Uint8Array(view.buffer);
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const name = (text: string): Uint8Array => encoder.encode(`${text}\0`);
const caught = (bytes: Uint8Array): Caught => ({ bytes, length: bytes.length });

interface Message {
  readonly numbers?: Numbers;
  readonly rest?: readonly Uint8Array[];
  readonly extensions?: Uint8Array;
  readonly nodeid?: number | bigint;
}

function request({ code, in: fixed }: Opcode, message: Message = {}): Caught {
  const { numbers, rest = [], extensions = new Uint8Array(0), nodeid = 1 } = message;
  const body = joined(packed(fixed, numbers), ...rest, extensions);
  const header = { len: 40 + body.length, opcode: code, unique: UNIQUE, nodeid, uid: 7, gid: 8, pid: 9 };
  return caught(joined(packed(InHeader, { ...header, totalExtlen: extensions.length / 8 }), body));
}

function reply(body: Uint8Array, error = 0, unique = UNIQUE): Caught {
  return caught(joined(packed(OutHeader, { len: 16 + body.length, error, unique }), body));
}

function entryOut(nodeid: number, mode: number, size: number): Uint8Array {
  const entry = packed(EntryOut, { nodeid, entryValid: 1 });
  entry.set(packed(Attr, { mode, size }), EntryOut.offsets.attr);
  return entry;
}

const line = (asked: Caught, answered?: Caught, options?: DescribeOptions): string =>
  describeLine(describe(asked, answered, options));

test('a lookup is a line with the name, and the node that it has led to', () => {
  const asked = request(opcodes.LOOKUP, { rest: [name('etc')] });
  assert.equal(line(asked, reply(entryOut(42, 0o40755, 4096))), 'LOOKUP node 1 "etc" -> node 42 size 4096 mode 040755');
  assert.equal(line(asked, reply(entryOut(0, 0, 0))), 'LOOKUP node 1 "etc" -> no such name');
  assert.equal(line(asked, reply(new Uint8Array(0), -2)), 'LOOKUP node 1 "etc" -> ENOENT');
});

test('a description has the header, the fields by name and the reply, and is as it is in JSON', () => {
  const numbers = { flags: 0o1102, mode: 0o100640, umask: 0o22 };
  const opened = joined(
    entryOut(5, 0o100640, 0),
    packed(opcodes.OPEN.out, { fh: 3, openFlags: flags.FOPEN.KEEP_CACHE }),
  );
  const described = describe(request(opcodes.CREATE, { numbers, rest: [name('new')] }), reply(opened));
  assert.deepEqual(JSON.parse(JSON.stringify(described)), described);
  const { fields: answered, ...rest } = described.reply as NonNullable<Description['reply']>;
  assert.deepEqual(rest, { length: 160, error: '' });
  assert.deepEqual(answered.open, { fh: 3, openFlags: 'KEEP_CACHE', backingId: 0 });
  assert.equal((answered.entry as { nodeid: number }).nodeid, 5);
  assert.deepEqual(
    { ...described, reply: undefined },
    {
      opcode: 'CREATE',
      code: 35,
      unique: 12,
      nodeid: 1,
      uid: 7,
      gid: 8,
      pid: 9,
      length: 60,
      fields: { flags: 'O_RDWR|O_CREAT|O_TRUNC', mode: '0100640', umask: '022', openFlags: '0' },
      names: ['new'],
      payloadBytes: 0,
      reply: undefined,
      problems: [],
    },
  );
});

test('64-bit numbers beyond 2^53 are strings, exact', () => {
  const numbers = { fh: 2n ** 64n - 1n, offset: 2n ** 53n, size: 10 };
  const { fields, nodeid } = describe(request(opcodes.READ, { numbers, nodeid: 2n ** 63n + 1n }), undefined);
  assert.equal(nodeid, '9223372036854775809');
  assert.deepEqual([fields.fh, fields.offset, fields.size], ['18446744073709551615', '9007199254740992', 10]);
  const before1970 = describe(request(opcodes.SETATTR, { numbers: { valid: 0x20, mtime: -5n } }), undefined);
  assert.deepEqual([before1970.fields.valid, before1970.fields.mtime], ['MTIME', -5]);
});

test('flags of open(2) are those of the guest, which has another machine', () => {
  const asked = request(opcodes.OPEN, { numbers: { flags: 0o240001 } });
  assert.equal(describe(asked, undefined).fields.flags, 'O_WRONLY|O_DIRECT|O_DIRECTORY');
  assert.equal(describe(asked, undefined, { arm64: true }).fields.flags, 'O_WRONLY|O_DIRECTORY|O_DIRECT');
  const directory = request(opcodes.OPEN, { numbers: { flags: 0o40000 } });
  assert.equal(describe(directory, undefined, { arm64: true }).fields.flags, 'O_RDONLY|O_DIRECTORY');
});

test('the flags of INIT are spelled, of a short one as far as it goes', () => {
  const numbers = { major: 7, minor: 41, flags: flags.INIT.BIG_WRITES | flags.INIT.SETXATTR_EXT, flags2: 1 };
  const { fields } = describe(request(opcodes.INIT, { numbers }), undefined);
  assert.deepEqual(fields, {
    major: 7,
    minor: 41,
    maxReadahead: 0,
    flags: 'BIG_WRITES|SETXATTR_EXT',
    flags2: 'SECURITY_CTX',
  });
  const short = request(opcodes.INIT, { numbers }).bytes.slice(0, 56);
  new DataView(short.buffer).setUint32(0, 56, true);
  const described = describe(caught(short), undefined);
  assert.deepEqual(Object.keys(described.fields), ['major', 'minor', 'maxReadahead', 'flags']);
  assert.deepEqual(described.problems, []);
});

test('a SETXATTR is as long as was agreed on', () => {
  const value = encoder.encode('blue');
  const asked = request(opcodes.SETXATTR, { numbers: { size: 4, flags: 1 }, rest: [name('user.color'), value] });
  const long = describe(asked, undefined, { setxattrExt: true });
  assert.deepEqual([long.names, long.payloadBytes, long.fields.flags], [['user.color'], 4, 'CREATE']);
  const cut = joined(asked.bytes.subarray(0, 48), asked.bytes.subarray(56));
  new DataView(cut.buffer).setUint32(0, cut.length, true);
  const short = describe(caught(cut), undefined);
  assert.deepEqual([short.names, short.payloadBytes, short.problems], [['user.color'], 4, []]);
});

test('names that are no text, or would do something to a terminal, are escaped', () => {
  const bytes = Uint8Array.of(0x61, 0xff, 0xc3, 0xa9, 0x1b, 0x0a, 0x22, 0x5c, 0xc0, 0x80, 0xed, 0xa0, 0x80, 0xf0, 0x9f);
  assert.equal(printable(bytes), 'a\\xff\u00e9\\x1b\\n\\"\\\\\\xc0\\x80\\xed\\xa0\\x80\\xf0\\x9f');
  assert.equal(printable(encoder.encode('a b\u202e\u00a0\u0085\u{1f600}')), 'a b\\u{202e}\\u{a0}\\u{85}\u{1f600}');
  const asked = request(opcodes.UNLINK, { rest: [name('x\ny')] });
  assert.equal(line(asked, reply(new Uint8Array(0))), 'UNLINK node 1 "x\\ny" -> ok');
});

test('any bytes at all are printable on one line, and different bytes differ', () => {
  const any = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(any, any, (a, b) => {
      const text = printable(a);
      assert.doesNotMatch(text, /[\p{C}\p{Zl}\p{Zp}]/u);
      if (Buffer.compare(a, b) !== 0) assert.notEqual(text, printable(b));
    }),
  );
});

test('the entries of a directory are counted, and the first ones told', () => {
  for (const [plus, encode] of [
    [false, encodeDirent],
    [true, encodeDirentplus],
  ] as const) {
    const u8 = new Uint8Array(4096);
    const view = new DataView(u8.buffer);
    let end = 0;
    for (let i = 0; i < 9; i += 1) {
      const text = encoder.encode(`file-${i}`);
      end += encode(view, u8, end, 4096 - end, i + 1, 0, i + 1, 0, 8, text, 0, text.length);
    }
    const asked = request(plus ? opcodes.READDIRPLUS : opcodes.READDIR, { numbers: { fh: 1, size: 4096 } });
    const listed = reply(u8.slice(0, end));
    const { fields } = describe(asked, listed, { listed: 2 }).reply as NonNullable<Description['reply']>;
    assert.equal(fields.count, 9);
    const list = fields.entries as { name: string; ino: number; off: number; type: string; entry?: unknown }[];
    assert.deepEqual(
      list.map((each) => [each.name, each.ino, each.off, each.type, each.entry !== undefined]),
      [
        ['file-0', 1, 1, 'REG', plus],
        ['file-1', 2, 2, 'REG', plus],
      ],
    );
    assert.match(line(asked, listed), / -> 9 entries "file-0" "file-1" "file-2" "file-3" \.\.\.$/);
    const part = { bytes: listed.bytes.slice(0, 100), length: listed.length };
    assert.match(line(asked, part), /bytes of entries were not caught/);
    for (let cut = 16; cut <= listed.length; cut += 1) {
      const told = describe(asked, caught(listed.bytes.slice(0, cut)));
      // Two bytes of padding follow each name.
      assert.equal(told.reply?.fields.count, Math.floor((cut - 16 + 2) / (end / 9)), `${cut} bytes`);
    }
  }
});

test('security contexts and groups are told', () => {
  const label = joined(new Uint8Array(Uint32Array.of(32, 1, 4, 0).buffer), name('security.selinux'));
  const context = new Uint8Array(48);
  context.set(label);
  context.set(encoder.encode('a_t\0'), 33);
  new DataView(context.buffer).setUint32(0, 48, true);
  const groups = new Uint8Array(Uint32Array.of(16, 32, 1, 100).buffer);
  const extensions = joined(context, groups);
  const asked = request(opcodes.MKDIR, { numbers: { mode: 0o755 }, rest: [name('d')], extensions });
  const { extensions: told, problems, payloadBytes } = describe(asked, undefined);
  assert.deepEqual(told, { securityContexts: [{ name: 'security.selinux', value: 'a_t' }], groups: [100] });
  assert.deepEqual([problems, payloadBytes], [[], 0]);
  assert.match(line(asked), /"d" mode 0755 securityContexts security.selinux=a_t groups 100$/);
});

test('what follows FORGET and READLINK, READ and WRITE is said in their own words', () => {
  assert.equal(line(request(opcodes.FORGET, { nodeid: 5, numbers: { nlookup: 3 } })), 'FORGET node 5 nlookup 3');
  const forgets = new Uint8Array(BigUint64Array.of(5n, 1n, 6n, 2n).buffer);
  const batch = request(opcodes.BATCH_FORGET, { nodeid: 0, numbers: { count: 2 }, rest: [forgets] });
  assert.equal(line(batch), 'BATCH_FORGET nodeid 5 nlookup 1 nodeid 6 nlookup 2');
  assert.equal(line(request(opcodes.READLINK), reply(encoder.encode('../a'))), 'READLINK node 1 -> target "../a"');
  const read = request(opcodes.READ, { numbers: { fh: 2, size: 100 } });
  assert.equal(line(read, reply(new Uint8Array(7))), 'READ node 1 fh 2 size 100 -> 7 bytes');
  const write = request(opcodes.WRITE, { numbers: { fh: 2, size: 3, writeFlags: 1 }, rest: [new Uint8Array(3)] });
  assert.equal(line(write, reply(new Uint8Array(8))), 'WRITE node 1 fh 2 size 3 writeFlags CACHE -> ok');
  assert.equal(describe(write, undefined).payloadBytes, 3);
});

test('a reply to another request, and lengths that lie, are told as problems', () => {
  const asked = request(opcodes.GETATTR);
  assert.equal(line(asked, reply(new Uint8Array(104), -2, 99n)), 'GETATTR node 1 -> [the reply is gone]');
  assert.match(line(asked, reply(new Uint8Array(100))), /\[the reply has 100 bytes instead of 104\]/);
  const lying = request(opcodes.GETATTR);
  new DataView(lying.bytes.buffer).setUint32(0, 9999, true);
  assert.match(line(lying), /\[the header says 9999 bytes, the buffers 56\]/);
  assert.match(line(request(opcodes.LOOKUP, { rest: [encoder.encode('abc')] })), /\[a name has no end\]/);
  assert.equal(line(caught(new Uint8Array(39))), 'no header [a request of 39 bytes has no header]');
});

test('every opcode is described by its name and the fields of its structs', () => {
  for (const record of OPCODES) {
    if (record === undefined) continue;
    const rest = Array.from({ length: record.names }, (_, i) => name(`n${i}`));
    const { opcode, fields, names, problems } = describe(request(record, { rest }), undefined, { setxattrExt: true });
    assert.equal(opcode, record.name);
    const wanted = (record.in?.layout ?? []).filter((each) => !each.name.startsWith('_')).map((each) => each.name);
    assert.deepEqual(
      Object.keys(fields).filter((key) => key !== 'forgets' && key !== 'ranges'),
      wanted,
    );
    assert.deepEqual([names.length, problems], [record.names, []], record.name);
  }
  const unknown = { ...opcodes.GETATTR, code: 99 as 3 };
  assert.equal(line(request(unknown)), 'opcode 99 node 1 +16 bytes');
});

test('nothing in a message makes it throw: any bytes, of any opcode, cut anywhere', () => {
  const code = fc.oneof(fc.nat(OPCODES.length), fc.nat(0xffff_ffff));
  const bytes = fc.uint8Array({ maxLength: 400 });
  const small = fc.uint8Array({ maxLength: 400, max: 40 });
  const property = fc.property(
    code,
    fc.oneof(bytes, small),
    fc.oneof(bytes, small),
    fc.nat(500),
    fc.nat(9),
    fc.boolean(),
    (opcode, body, answer, extra, extlen, setxattrExt) => {
      const header = { len: 40 + body.length, opcode, nodeid: 1, totalExtlen: extlen };
      const asked = joined(packed(InHeader, header), body);
      const told = reply(answer, 0, 0n);
      for (const cut of [asked.length, asked.length >> 1, 41, 39]) {
        const part = { bytes: asked.slice(0, cut), length: asked.length + extra };
        const described = describe(part, { bytes: told.bytes, length: told.length + extra }, { setxattrExt });
        assert.doesNotMatch(describeLine(described), /\n|undefined|NaN|\[object/);
        assert.deepEqual(JSON.parse(JSON.stringify(described)), described);
      }
      describe(caught(asked), { bytes: told.bytes.slice(0, extra % 20), length: extra });
      describeLine(describe(caught(asked), told));
    },
  );
  fc.assert(property, { numRuns: 5000, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false });
});
