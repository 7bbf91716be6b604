import assert from 'node:assert/strict';
import { Duplex, PassThrough } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { Lane, Trailer } from './lane.ts';

const TOKEN = '0123456789abcdef0123456789abcdef';

/** Pushes a stream in pieces. */
function push(stream: Buffer, cuts: readonly number[]): { output: Buffer; codes: number[] } {
  const pieces: Buffer[] = [];
  const codes: number[] = [];
  const trailer = new Trailer(
    TOKEN,
    (bytes) => pieces.push(Buffer.from(bytes)),
    (code) => codes.push(code),
  );
  const places = cuts.filter((cut) => cut < stream.length).toSorted((a, b) => a - b);
  for (const [i, end] of [...places, stream.length].entries()) trailer.push(stream.subarray(places[i - 1] ?? 0, end));
  return { output: Buffer.concat(pieces), codes };
}

test('the end of a command is found however the stream is cut, and its output stays whole', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.integer({ min: 0, max: 255 }),
      fc.array(fc.integer({ min: 1, max: 240 }), { maxLength: 20 }),
      (bytes, code, cuts) => {
        const stream = Buffer.concat([bytes, Buffer.from(`\0${TOKEN} ${code}\n`)]);
        const { output, codes } = push(stream, cuts);
        assert.deepEqual(output, Buffer.from(bytes));
        assert.deepEqual(codes, [code]);
      },
    ),
  );
});

test('output that looks like the beginning of the end is output', () => {
  const bytes = Buffer.from(`\0\0${TOKEN}\0${TOKEN.slice(0, 31)} 0\n`);
  const stream = Buffer.concat([bytes, Buffer.from(`\0${TOKEN} 7\n`)]);
  const all = Array.from({ length: stream.length }, (_, i) => i);
  assert.deepEqual(push(stream, all), { output: bytes, codes: [7] });
});

test('a command has ended when its output has been taken', async () => {
  const error = new PassThrough();
  // A guest that answers at once: the end of standard error is there before the last of standard output.
  const io = new Duplex({
    read: () => undefined,
    write(chunk: Buffer, _encoding, done) {
      const [token] = chunk.toString().split(' ');
      if (chunk.includes('\n')) {
        error.write(`\0${token} 0\n`);
        setImmediate(() => io.push(`the last\0${token} 0\n`));
      }
      done();
    },
  });
  let taken = '';
  const result = await new Lane(io, error, '').run('true', {
    onStdout: async (bytes) => {
      await new Promise((resolve) => setImmediate(resolve));
      taken += bytes.toString();
    },
  });
  assert.deepEqual([taken, result.code], ['the last', 0]);
});
