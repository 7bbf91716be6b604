import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { boot, GUEST_PROJECT } from './index.ts';

test("a guest runs Node.js, and in it this project's own code with system calls through node:ffi", async () => {
  await using vm = await boot({ node: true });
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  assert.equal(await vm.sh(`node ${GUEST_PROJECT}/src/cli/main.ts --version`), manifest.version);
  const stdin = `import { descriptorLimit } from '${GUEST_PROJECT}/src/sys/index.ts'; console.log(descriptorLimit());`;
  assert.equal(await vm.sh('ulimit -n 123; node --input-type=module -', { stdin }), '{ soft: 123, hard: 123 }');
});
