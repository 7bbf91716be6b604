import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProveOutput } from './prove.ts';

const OUTPUT = `/s/open/01.t .. 
1..3
ok 1
ok 2 - with words
ok 3
ok
/s/chmod/00.t ... 
1..4
ok 1
not ok 2 - tried 'chmod a 0644', expected 0, got EPERM
not ok 3 # Todo Linux is different here
ok 4 # todo it works now
Failed 1/4 subtests 
	(1 Todo test unexpectedly succeeded)
/s/open/02.t .. skipped: only for root
/s/link/00.t .. 
1..5
ok 1
cannot remove 'x'
ok 2
Dubious, test returned 1 (wstat 256, 0x100)
Failed 3/5 subtests 
/s/link/01.t .. 
not ok
No subtests run 
/s/link/02.t .. 
1..2
ok 1
Failed 1/2 subtests 

Test Summary Report
-------------------
/s/chmod/00.t (Wstat: 0 Tests: 4 Failed: 1)
  Failed test:  2
Files=6, Tests=11,  0 wallclock secs ( 0.02 usr +  0.00 sys =  0.02 CPU)
Result: FAIL
`;

const NAMES = ['open/01.t', 'chmod/00.t', 'open/02.t', 'link/00.t', 'link/01.t', 'link/02.t'].map(
  (name) => `/s/${name}`,
);

const EXPECTED = {
  '/s/open/01.t': { run: 3, failed: [], todo: 0 },
  '/s/chmod/00.t': {
    run: 4,
    failed: [{ number: 2, text: "tried 'chmod a 0644', expected 0, got EPERM" }],
    todo: 2,
  },
  '/s/open/02.t': { run: 0, failed: [], todo: 0 },
  '/s/link/00.t': { run: 2, failed: [], todo: 0, problem: 'test returned 1 (wstat 256, 0x100)' },
  '/s/link/01.t': { run: 1, failed: [{ number: 1, text: '' }], todo: 0, problem: 'no plan' },
  '/s/link/02.t': { run: 1, failed: [], todo: 0, problem: 'planned 2 tests, ran 1' },
};

test('each file has its counts, its failed tests in their words, and what was wrong with it as a whole', () => {
  const output = new ProveOutput(NAMES);
  output.push(OUTPUT);
  assert.deepEqual(Object.fromEntries(output.files), EXPECTED);
  assert.equal(output.tests, 11);
});

test('output means the same in whatever pieces it comes', () => {
  for (const size of [1, 7, 100]) {
    const output = new ProveOutput(NAMES);
    for (let at = 0; at < OUTPUT.length; at += size) output.push(OUTPUT.slice(at, at + size));
    assert.deepEqual(Object.fromEntries(output.files), EXPECTED);
  }
});

test('a run that was cut off has the files that ended, and no total', () => {
  const output = new ProveOutput(NAMES);
  output.push(OUTPUT.slice(0, OUTPUT.indexOf('not ok 3')));
  assert.deepEqual([...output.files.keys()], ['/s/open/01.t']);
  assert.equal(output.tests, undefined);
});

test('a line of a test that looks like a header is none unless it names a file of the run', () => {
  const output = new ProveOutput(['/s/a.t']);
  output.push('/s/a.t .. \n1..1\n/s/b.t .. \nok 1\nok\nFiles=1, Tests=1,  0 wallclock secs\nResult: PASS\n');
  assert.deepEqual(Object.fromEntries(output.files), { '/s/a.t': { run: 1, failed: [], todo: 0 } });
});
