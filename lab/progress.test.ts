import assert from 'node:assert/strict';
import { test } from 'node:test';
import { howFar, type Progress, progressTo, terminalLine } from './progress.ts';

/** Progress on a stream that only collects, with a clock of its own. */
function collect(isTTY: boolean): { progress: Progress; text: () => string; wait: (milliseconds: number) => void } {
  let text = '';
  let time = 0;
  const stream = { isTTY, columns: 60, write: (more: string) => (text += more) };
  return { progress: progressTo(stream, () => time), text: () => text, wait: (milliseconds) => (time += milliseconds) };
}

test('it says how many megabytes of how many', () => {
  assert.equal(howFar(12_345_678, 28_500_000), '12.3 of 28.5 MB, 43 %');
  assert.equal(howFar(30_000_000, 28_500_000), '28.5 of 28.5 MB, 100 %');
  assert.equal(howFar(0, 0), '');
});

test('a file gets a line when a task begins and one when it ends', () => {
  const { progress, text, wait } = collect(false);
  const task = progress.start('QEMU 11.1.3', 28_500_000);
  wait(1_000);
  task.update(5_000_000);
  wait(1_100);
  task.done();
  assert.equal(text(), 'QEMU 11.1.3: 28.5 MB\nQEMU 11.1.3: 28.5 MB in 2.1 s\n');
});

test('a slow task tells a file every five seconds how far it is', () => {
  const { progress, text, wait } = collect(false);
  const task = progress.start('Linux', 10_000_000);
  for (let done = 1; done <= 6; done += 1) {
    wait(1_000);
    task.update(done * 1_000_000);
  }
  assert.equal(text(), 'Linux: 10.0 MB\nLinux: 5.0 of 10.0 MB, 50 %\n');
});

test('a terminal gets one line that is drawn again, and a last word', () => {
  const { progress, text, wait } = collect(true);
  const task = progress.start('Linux', 10_000_000);
  wait(200);
  task.update(5_000_000);
  wait(800);
  task.done();
  assert.equal(text().split('\n').length, 2);
  const [clear, bar] = ['\r\u001b[K', `[${'#'.repeat(10)}${'.'.repeat(10)}]`];
  assert.ok(text().endsWith(`${clear}Linux ${bar} 5.0 of 10.0 MB, 50 %${clear}Linux: 10.0 MB in 1.0 s\n`), text());
});

test('a line never wraps on a narrow terminal', () => {
  assert.equal(terminalLine('Debian package lists', 1, 2, 30).length, 29);
});
