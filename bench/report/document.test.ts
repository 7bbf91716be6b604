import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { BenchResult } from '../results.ts';
import { chartsOf, documentOf } from './document.ts';
import { escapedMarkdown, markdownOf } from './markdown.ts';
import { counts, RESULT, rounds, row } from './testing.ts';

/** What stands below a heading, without the lines that rule tables. */
function below(result: BenchResult, heading: string): string[] {
  const lines = markdownOf(documentOf(result)).split('\n');
  const first = lines.indexOf(heading);
  assert.notEqual(first, -1, `there is no ${heading}`);
  const rest = lines.slice(first + 1);
  const last = rest.findIndex((line) => line.startsWith('#'));
  return rest.slice(0, last === -1 ? undefined : last).filter((line) => line !== '' && !line.startsWith('|---'));
}

const withRows = (...rows: BenchResult['rows']): BenchResult => ({ ...RESULT, rows });

/** The table of rates of a report on one suite. */
function ratesOf(...rows: BenchResult['rows']): string[] {
  return below(withRows(...rows), '### Rate').slice(1);
}

test('the report describes the machine', () => {
  assert.deepEqual(below(RESULT, '# virtiofs bench'), ['2030-01-02, 3 rounds: virtiofs bench --quick']);
  assert.deepEqual(below(RESULT, '## Machine').slice(0, 3), [
    '- Host: 3 cores (Some CPU), 7777 MiB, Linux 6.12.1, Node.js v26.10.0',
    '- Shared folder: on ext4',
    '- Guest: 1 CPU (TCG, without KVM), 2048 MiB, Linux 6.12.2, QEMU 11.1.3',
  ]);
  assert.deepEqual(below(RESULT, '## Contestants').slice(-2), [
    '| virtiofs auto | auto | - | - | 0.1.0 |',
    '| virtiofs never dax | never | - | 512M | 0.1.0 |',
  ]);
});

test('the report names who could not be started, and why', () => {
  assert.doesNotMatch(markdownOf(documentOf(RESULT)), /Could not be started/);
  const leftOut = [{ label: 'virtiofs never dax', why: 'the daemon ended' }];
  assert.deepEqual(below({ ...RESULT, leftOut }, '### Could not be started'), [
    '- virtiofs never dax: the daemon ended',
  ]);
});

test('without KVM the report says what counts then; with KVM, and without a guest, it does not', () => {
  const { machine } = RESULT;
  const { guest, ...host } = machine;
  assert.ok(guest !== undefined);
  const caveat = /no KVM.*The comparison that counts/;
  assert.match(markdownOf(documentOf(RESULT)), caveat);
  const kvm: BenchResult = { ...RESULT, machine: { ...machine, guest: { ...guest, accelerator: 'kvm' } } };
  assert.doesNotMatch(markdownOf(documentOf(kvm)), caveat);
  assert.match(below(kvm, '## Machine')[2], /1 CPU \(KVM\)/);
  assert.doesNotMatch(markdownOf(documentOf({ ...RESULT, machine: host })), caveat);
  assert.match(below({ ...RESULT, machine: host }, '## Machine')[2], /^- Guest: none/);
});

test('the report says so where the file system distorts the figures', () => {
  const { machine } = RESULT;
  const distorted = { ...RESULT, machine: { ...machine, fileSystem: 'ext4 without a journal' } };
  assert.match(markdownOf(documentOf(distorted)), /passes over all inodes that were deleted/);
  assert.doesNotMatch(markdownOf(documentOf(RESULT)), /passes over all inodes that were deleted/);
});

test('each suite has a table of each metric: medians, and the middle half where rounds differ', () => {
  // Headings come again in the next suite: the first are those of smallfile.
  assert.deepEqual(below(RESULT, '### Rate'), [
    '|  | 9p none | 9p loose | Rust virtiofsd auto | virtiofs never | virtiofs auto |',
    '| create, files/s | 110 (105-115) | - | 440 (420-470) | 440 (430-445) | 900 (850-1110) |',
    '| ls-l, files/s | - | 300 | - | - | 330 (315-465) |',
  ]);
  assert.deepEqual(below(RESULT, '### CPU time of the daemon for an operation (us)'), [
    '|  | Rust virtiofsd auto | virtiofs never | virtiofs auto |',
    '| create | 250 (225-275) | 400 | 220 (185-235) |',
    '| ls-l | - | - | 0 |',
  ]);
  assert.deepEqual(below(RESULT, '### Messages for an operation'), [
    '|  | 9p none | 9p loose | Rust virtiofsd auto | virtiofs never | virtiofs auto |',
    '| create | 12.3 | - | 3.00 | 5.00 | 2.00 |',
    '| ls-l | - | 0.07 | - | - | 0 |',
  ]);
  assert.deepEqual(below(RESULT, '### Memory of the guest that came into use (MiB)'), [
    '|  | 9p none | 9p loose | Rust virtiofsd auto | virtiofs never | virtiofs auto |',
    '| create | 0 | - | 50.0 | 25.0 | 100 |',
    '| ls-l | - | 1.00 | - | - | 0 |',
  ]);
});

test('what moves bytes is shown in MB/s, and what takes longer than a second by the minute', () => {
  const mapped = RESULT.rows.filter(({ suite }) => suite === 'fio');
  assert.deepEqual(ratesOf(...mapped), ['| mmap read, 1 file, MB/s | 10.2 | 51.2 (46.1-66.6) |']);
  const runs = [{ operations: 1, seconds: 30 }];
  const clone = row({ suite: 'everyday', name: 'git clone', operation: 'runs', samples: { auto: runs } });
  assert.deepEqual(ratesOf(clone), ['| git clone, runs/min | 2.00 |']);
});

test('latencies have tables where single operations were timed', () => {
  const timed = [
    { operations: 10, seconds: 1, p50Us: 4, p99Us: 50 },
    { operations: 10, seconds: 1, p50Us: 6, p99Us: 70 },
  ];
  const result = withRows(row({ suite: 'daemon', name: 'stat', samples: { auto: timed } }));
  assert.equal(below(result, '### Half of the operations took at most (us)')[1], '| stat | 5.00 (4.50-5.50) |');
  assert.equal(below(result, '### 99 of 100 operations took at most (us)')[1], '| stat | 60.0 (55.0-65.0) |');
  assert.doesNotMatch(markdownOf(documentOf(RESULT)), /took at most/);
});

test('the report says who could not do what, and why', () => {
  assert.deepEqual(below(RESULT, '### Could not be measured'), ['- Rust virtiofsd auto: ls-l: ls: it has \\| ended']);
  const failures = { never: 'no mmap' };
  const result = withRows(row({ name: 'one', failures }), row({ name: 'two', failures }));
  assert.deepEqual(below(result, '### Could not be measured'), ['- virtiofs never: one; two: no mmap']);
});

test('ours is compared with 9p in the modes of the announcement, and with the ratio announced', () => {
  assert.deepEqual(below(RESULT, '## Rate against virtio-9p').slice(1), [
    '|  | ours | 9p | ours : 9p | announced | goal |',
    '| create | virtiofs never | 9p none | 4.09 (3.80-4.25) | 3.70 | met |',
    '| ls-l | not measured | not measured | - | 2.30 | - |',
    '| ls-l, modes that cache | virtiofs auto | 9p loose | 1.10 (1.05-1.55) | 8.40 | missed |',
    '| fio mmap, 1 file | virtiofs never dax | 9p none | 5.00 (4.50-6.50) | 4.50 | met ~ |',
  ]);
});

test('all ratios of the announcement are there when all of its rows were run', () => {
  const smallfile = ['create', 'ls-l', 'ls-l cached', 'read', 'append', 'rename', 'rename cached', 'delete-renamed'];
  const result = withRows(
    ...smallfile.map((name) => row({ name })),
    ...['mmap read, 1 file', 'mmap read, 4 files', 'psync random read, 4 KiB'].map((name) =>
      row({ suite: 'fio', name }),
    ),
  );
  assert.deepEqual(below(result, '## Rate against virtio-9p').slice(2), [
    '| create | not measured | not measured | - | 3.70 | - |',
    '| ls-l | not measured | not measured | - | 2.30 | - |',
    '| ls-l, modes that cache | not measured | not measured | - | 8.40 | - |',
    '| read | not measured | not measured | - | 7.10 | - |',
    '| append | not measured | not measured | - | 3.60 | - |',
    '| rename | not measured | not measured | - | 2.40 | - |',
    '| rename, modes that cache | not measured | not measured | - | 3.80 | - |',
    '| fio mmap, 1 file | not measured | not measured | - | 4.50 | - |',
    '| fio mmap, 4 files | not measured | not measured | - | 3.60 | - |',
  ]);
});

test('where nothing caches ours has no window but for mapped files, and never write-back', () => {
  const all = { '9p-none': rounds([1, 1, 1]), never: rounds([4, 4, 4]), dax: rounds([9, 9, 9]) };
  const result: BenchResult = {
    ...withRows(row({ samples: { ...all, wb: rounds([5, 5, 5]) } }), row({ ...RESULT.rows[2], samples: all })),
    contestants: [{ ...RESULT.contestants[3], id: 'wb', writeback: true }, ...RESULT.contestants],
  };
  assert.deepEqual(below(result, '## Rate against virtio-9p').slice(2), [
    '| create | virtiofs never | 9p none | 4.00 (4.00-4.00) | 3.70 | met |',
    '| fio mmap, 1 file | virtiofs never dax | 9p none | 9.00 (9.00-9.00) | 4.50 | met |',
  ]);
});

test('with Rust virtiofsd each is compared at its best: rate, CPU time and messages', () => {
  assert.deepEqual(below(RESULT, '## Against Rust virtiofsd').slice(1), [
    '|  | ours | theirs | rate | 1 or more | CPU | 1 or less | messages | no more |',
    `| ${['create', 'virtiofs auto', 'Rust virtiofsd auto', '2.00 (1.90-2.50)', 'met'].join(' | ')} |` +
      ' 1.00~ (0.75-1.05) | met ~ | 2.00 : 3.00 | met |',
  ]);
});

test('their best is the configuration that had the highest median rate in that row', () => {
  const samples = { 'rust-auto': rounds([9, 1, 1]), 'rust-never': rounds([2, 2, 2]), never: rounds([1, 1, 1]) };
  const result: BenchResult = {
    ...withRows(row({ samples, counts: { 'rust-never': counts(0, 0), never: counts(1, 0) } })),
    contestants: [...RESULT.contestants, { ...RESULT.contestants[2], id: 'rust-never', label: 'Rust', cache: 'never' }],
  };
  assert.deepEqual(below(result, '## Against Rust virtiofsd').slice(2), [
    '| create | virtiofs never | Rust | 0.50 (0.50-0.50) | missed | - | - | 0.01 : 0 | missed |',
  ]);
});

test('with Rust virtiofsd in the same mode each of ours has a column, but for those with a window', () => {
  const samples = { 'rust-auto': rounds([4, 4, 4], [1, 1, 1]), auto: rounds([6, 6, 6], [3, 3, 3]) };
  const messages = { 'rust-auto': counts(300, 50), auto: counts(200, 50), 'auto-dax': counts(100, 50) };
  const [ours] = RESULT.contestants.filter(({ id }) => id === 'auto');
  const more = [
    { ...ours, id: '4q', label: 'virtiofs auto 4q' },
    { ...ours, id: 'auto-dax', label: 'virtiofs auto dax', daxWindow: '512M' },
  ];
  const result: BenchResult = {
    ...withRows(
      row({ samples: { ...samples, '4q': rounds([2, 2, 2]), 'auto-dax': rounds([1, 1, 1]) }, counts: messages }),
    ),
    contestants: [...RESULT.contestants, ...more],
  };
  assert.deepEqual(below(result, '## Against Rust virtiofsd').slice(2), [
    '| create | virtiofs auto | Rust virtiofsd auto | 1.50 (1.50-1.50) | met | 3.00 (3.00-3.00) | missed | ' +
      '2.00 : 3.00 | met |',
  ]);
  const text = markdownOf(documentOf(result));
  const part = text.slice(text.indexOf('## Against Rust virtiofsd in the same mode'));
  assert.deepEqual(
    part.split('\n').filter((line) => line.startsWith('|') && !line.startsWith('|---')),
    [
      '|  | virtiofs auto | virtiofs auto 4q |',
      '| create | 1.50 (1.50-1.50) | 0.50 (0.50-0.50) |',
      '|  | virtiofs auto | virtiofs auto 4q |',
      '| create | 3.00 (3.00-3.00) | - |',
      '|  | virtiofs auto | virtiofs auto 4q |',
      '| create | 2.00 : 3.00 | - |',
    ],
  );
});

test('charts say what is better, and there is none of what nobody has figures of', () => {
  const titles = chartsOf(documentOf(RESULT)).map(({ title }) => title);
  assert.deepEqual(titles.slice(0, 4), [
    'How many times as fast as virtio-9p in the same cache mode',
    'smallfile: Rate (longer is better)',
    'smallfile: CPU time of the daemon for an operation in us (shorter is better)',
    'smallfile: Messages for an operation (shorter is better)',
  ]);
  const rateOnly = withRows(row({ suite: 'everyday', name: 'find', samples: { auto: rounds([1]) } }));
  assert.deepEqual(
    chartsOf(documentOf(rateOnly)).map(({ name }) => name),
    ['everyday-rate'],
  );
});

test('goals that are met, missed, and too near to tell are counted', () => {
  assert.deepEqual(below(RESULT, '## Goals'), [
    '- Rate against virtio-9p, at least as announced: 1 met, 1 missed, 1 too noisy to tell (~)',
    '- Rate against Rust virtiofsd, each at its best: 1 met, 0 missed',
    '- CPU time of the daemon against that of Rust virtiofsd: 0 met, 0 missed, 1 too noisy to tell (~)',
    '- Messages against Rust virtiofsd: 1 met, 0 missed',
    '- Rate against Rust virtiofsd in the same mode: 1 met, 0 missed',
    '- CPU time of the daemon in the same mode: 0 met, 0 missed, 1 too noisy to tell (~)',
    '- Messages in the same mode: 1 met, 0 missed',
    '![How many times as fast as virtio-9p in the same cache mode](ratios.svg)',
  ]);
});

test('several queues are held against one on parallel work, and only there', () => {
  const contestants = RESULT.contestants.map((each) => (each.id === 'auto' ? { ...each, queues: 4 } : each));
  const alone = row({ suite: 'everyday', name: 'find', samples: RESULT.rows[0].samples });
  const text = markdownOf(documentOf({ ...RESULT, contestants, rows: [...RESULT.rows, alone] }));
  assert.match(text, /^- Rate with several queues against its one on parallel work, at least 1.3: 1 met, 0 missed$/m);
});

test('of a single round every ratio is marked as too noisy', () => {
  const rows = RESULT.rows.map((each) => {
    const samples = Object.entries(each.samples).map(([id, [first]]) => [id, [first]] as const);
    return { ...each, samples: Object.fromEntries(samples) };
  });
  const result: BenchResult = { ...RESULT, rounds: 1, rows };
  assert.deepEqual(below(result, '# virtiofs bench'), ['2030-01-02, 1 round: virtiofs bench --quick']);
  assert.equal(below(result, '### Rate')[1], '| create, files/s | 100 | - | 400 | 440 | 800 |');
  assert.deepEqual(below(result, '## Rate against virtio-9p').slice(2), [
    '| create | virtiofs never | 9p none | 4.40~ (4.40-4.40) | 3.70 | met ~ |',
    '| ls-l | not measured | not measured | - | 2.30 | - |',
    '| ls-l, modes that cache | virtiofs auto | 9p loose | 2.00~ (2.00-2.00) | 8.40 | missed ~ |',
    '| fio mmap, 1 file | virtiofs never dax | 9p none | 4.00~ (4.00-4.00) | 4.50 | missed ~ |',
  ]);
});

test('without the peers, and without any row, there is a report of what there is', () => {
  const alone = { ...RESULT, contestants: RESULT.contestants.filter(({ kind }) => kind === 'virtiofs') };
  const text = markdownOf(documentOf(alone));
  assert.match(text, /\| create, files\/s \| 440 \(430-445\) \| 900 \(850-1110\) \|/);
  assert.doesNotMatch(text, /Against Rust virtiofsd/);
  assert.doesNotMatch(text, /NaN|undefined|Infinity/);
  assert.deepEqual(chartsOf(documentOf(withRows())), []);
  assert.doesNotMatch(markdownOf(documentOf(withRows())), /NaN|undefined|Infinity|## Goals/);
});

test('a run of no operations, or of no time, has no figures', () => {
  const samples = { auto: [{ operations: 0, seconds: 0, daemonCpuSeconds: 1 }], 'rust-auto': rounds([5, 5, 5]) };
  const broken = row({ samples, counts: { auto: { operations: 0, messages: 0 } } });
  const text = markdownOf(documentOf(withRows(broken)));
  assert.match(text, /\| create, files\/s \| 5.00 \|/);
  assert.doesNotMatch(text, /NaN|undefined|Infinity/);
});

test('nothing in a text is taken for Markdown or HTML', () => {
  assert.equal(
    escapedMarkdown('a|b <script>alert(1)</script> *x* _y_ `z` [l](u) &amp;\nnext \\'),
    'a\\|b &lt;script&gt;alert(1)&lt;/script&gt; \\*x\\* \\_y\\_ \\`z\\` \\[l\\](u) &amp;amp; next \\\\',
  );
  assert.deepEqual(['# a', '- a', '-', '+ a', '1. a', '2) a', '1.5'].map(escapedMarkdown), [
    ...['\\# a', '\\- a', '-', '\\+ a', '1\\. a', '2\\) a', '1.5'],
  ]);
});
