import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EPROTO } from '../core/errno.ts';
import { INIT, INIT2 } from './flags.ts';
import { encodeInit, type InitAgreement, type InitOffer, negotiate } from './init.ts';
import { InitIn, InitOut } from './structs.ts';

const OFFER: InitOffer = {
  flags: INIT.ASYNC_READ | INIT.MAX_PAGES | INIT.DO_READDIRPLUS,
  flags2: INIT2.ALLOW_IDMAP,
  maxReadaheadBytes: 1 << 20,
  maxWriteBytes: 1 << 20,
  maxPages: 256,
  maxBackground: 64,
  congestionThreshold: 48,
  timeGranNs: 1,
  mapAlignment: 12,
  requestTimeoutSeconds: 30,
};

const view = new DataView(new ArrayBuffer(128));

interface Guest {
  major?: number;
  minor?: number;
  flags?: number;
  flags2?: number;
  length?: number;
}

/** An fuse_init_in at byte 40 (as after a header), weighed. */
function ask(guest: Guest, offer: Partial<InitOffer> = {}) {
  InitIn.set.major(view, 40, guest.major ?? 7);
  InitIn.set.minor(view, 40, guest.minor ?? 46);
  InitIn.set.maxReadahead(view, 40, 1 << 17);
  InitIn.set.flags(view, 40, guest.flags ?? 0xffff_ffff);
  InitIn.set.flags2(view, 40, guest.flags2 ?? 0xffff_ffff);
  return negotiate(view, 40, guest.length ?? 64, { ...OFFER, ...offer });
}

function agreed(guest: Guest, offer: Partial<InitOffer> = {}): InitAgreement {
  const result = ask(guest, offer);
  assert.equal(result.status, 'agreed');
  return result;
}

test('only what both sides know is agreed on', () => {
  const result = agreed({ flags: INIT.ASYNC_READ | INIT.POSIX_LOCKS | INIT.INIT_EXT });
  assert.equal(INIT.format(result.flags), 'ASYNC_READ|INIT_EXT');
  assert.equal(INIT2.format(result.flags2), 'ALLOW_IDMAP');
  assert.equal(result.maxReadaheadBytes, 1 << 17);
});

test('nothing is ever agreed on that one side did not offer', () => {
  const word = fc.integer({ min: 0, max: 0xffff_ffff });
  fc.assert(
    fc.property(word, word, word, word, (flags, flags2, ours, ours2) => {
      const result = agreed({ flags, flags2 }, { flags: ours, flags2: ours2 });
      assert.equal(result.flags & ~flags, 0);
      assert.equal(result.flags & ~(ours | INIT.INIT_EXT), 0);
      assert.equal(result.flags2 & ~(flags2 & ours2), 0);
      assert.equal(result.flags & INIT.INIT_RESERVED, 0);
      if ((result.flags & INIT.INIT_EXT) === 0) assert.equal(result.flags2, 0);
    }),
  );
});

test('flags2 counts for nothing without INIT_EXT, or where the guest did not send it', () => {
  for (const guest of [{ flags: 0xffff_ffff & ~INIT.INIT_EXT }, { length: 16, minor: 31 }]) {
    const result = agreed(guest);
    assert.equal(result.flags2, 0);
    assert.equal(result.flags & INIT.INIT_EXT, 0);
  }
});

test('a request is 32 pages where the guest does not know MAX_PAGES, and maxWrite follows', () => {
  const old = agreed({ flags: 0xffff_ffff & ~INIT.MAX_PAGES });
  assert.equal(old.maxPages, 32);
  assert.equal(old.maxWriteBytes, 32 * 4096);
  const now = agreed({});
  assert.equal(now.maxPages, 256);
  assert.equal(now.maxWriteBytes, 1 << 20);
});

test('values that belong to a flag are 0 without it', () => {
  const without = agreed({});
  assert.equal(without.mapAlignment, 0);
  assert.equal(without.requestTimeoutSeconds, 0);
  const withBoth = agreed({}, { flags: INIT.MAP_ALIGNMENT, flags2: INIT2.REQUEST_TIMEOUT });
  assert.equal(withBoth.mapAlignment, 12);
  assert.equal(withBoth.requestTimeoutSeconds, 30);
});

test('the smaller minor version counts', () => {
  assert.equal(agreed({ minor: 31 }).minor, 31);
  assert.equal(agreed({ minor: 99 }).minor, 46);
});

test('a later major version is answered with ours, to be asked again', () => {
  const result = ask({ major: 8, minor: 0, length: 8 });
  assert.deepEqual(result, { status: 'retry', major: 7, minor: 46 });
  assert.equal(encodeInit(view, 0, result), 64);
  assert.equal(InitOut.major(view, 0), 7);
  assert.equal(InitOut.minor(view, 0), 46);
  assert.equal(InitOut.flags(view, 0), 0);
});

test('an old version or a body that is cut short is refused with EPROTO and says why', () => {
  const refusals: [Guest, RegExp][] = [
    [{ major: 6, minor: 46 }, /FUSE 6\.46; 7\.27 or newer/],
    [{ minor: 26 }, /FUSE 7\.26; 7\.27 or newer/],
    [{ length: 7 }, /body of 7 bytes/],
    [{ length: 15 }, /body of 15 bytes/],
  ];
  for (const [guest, message] of refusals) {
    const result = ask(guest);
    assert.ok(result.status === 'refused');
    assert.equal(result.errno, EPROTO);
    assert.match(result.message, message);
  }
});

test('the reply is 64 bytes with every value in its place and zeros elsewhere', () => {
  const result = agreed({ flags: INIT.ASYNC_READ | INIT.MAX_PAGES | INIT.INIT_EXT });
  for (let i = 0; i < 128; i += 1) view.setUint8(i, 0xee);
  assert.equal(encodeInit(view, 8, result), 64);
  assert.equal(
    InitOut.format(view, 8),
    'fuse_init_out{major=7 minor=46 maxReadahead=131072 flags=1077936129 maxBackground=64 congestionThreshold=48 ' +
      'maxWrite=1048576 timeGran=1 maxPages=256 mapAlignment=0 flags2=256 maxStackDepth=0 requestTimeout=0}',
  );
  for (let i = 8 + InitOut.offsets._unused; i < 8 + 64; i += 1) assert.equal(view.getUint8(i), 0);
  assert.equal(view.getUint8(7), 0xee);
  assert.equal(view.getUint8(72), 0xee);
});
