import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseHistogram } from './watch.ts';

test('the histogram of a tracepoint is read row by row, whatever stands around the rows', () => {
  const text = `# event histogram
#
# trigger info: hist:keys=opcode:vals=hitcount:sort=hitcount:size=2048 [active]
#

{ opcode:         29 } hitcount:          1
{ opcode:          3 } hitcount:         12

Totals:
    Hits: 13
    Entries: 2
    Dropped: 0
MemTotal:        2030000 kB
{ type:        110 } hitcount:        700
`;
  assert.deepEqual(parseHistogram(text), [
    { key: 'opcode', value: 29, count: 1 },
    { key: 'opcode', value: 3, count: 12 },
    { key: 'type', value: 110, count: 700 },
  ]);
});
