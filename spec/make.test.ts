import assert from 'node:assert/strict';
import { test } from 'node:test';
import { program, readHeader } from './make.ts';

const HEADER = `
#define FUSE_BIT	(1 << 3) /* a bit */
#define FUSE_WIDE (1ULL << 40)
#define FUSE_GUARD
#define FUSE_CALL(x) ((x) + 1)
#define FUSE_SEVERAL \\
	offsetof(struct a, b)
#define FUSE_DEV_IOC_CLONE _IOR(229, 0, uint32_t)
enum kinds { FIRST = 1, /* not = a member */ LAST = 9, };
struct a {
	uint64_t	b;	/* struct x { int y; }; */
	uint32_t c[11];
	struct other inner;
	union {
		struct { uint64_t addr; uint32_t len; } pool;
		uint16_t index;
	};
	// char gone;
	char name[];
};
`;

test('structs are found with their members, those of anonymous unions included', () => {
  const { structs } = readHeader(HEADER);
  assert.deepEqual(structs, [
    {
      name: 'a',
      fields: ['b', 'c', 'inner', 'pool', 'index', 'name'].map((name) => ({ name, flexible: name === 'name' })),
    },
  ]);
});

test('enums and macros that are numbers are found, others are not', () => {
  const { enums, defines } = readHeader(HEADER);
  assert.deepEqual(enums, [{ name: 'kinds', members: ['FIRST', 'LAST'] }]);
  assert.deepEqual(defines, ['FUSE_BIT', 'FUSE_WIDE']);
});

test('a member that cannot be read is an error, not a gap', () => {
  assert.throws(() => readHeader('struct a {\n  unsigned long long b;\n};\n'), /not a member: unsigned long long b/);
  assert.throws(() => readHeader('struct a {\n  int b;\n'), /no closing brace/);
});

test('the compiler is asked for every offset and size, but not for the size of a flexible array', () => {
  const c = program('linux/fuse.h', readHeader(HEADER));
  assert.match(c, /#include <linux\/fuse\.h>/);
  assert.match(c, /offsetof\(struct a, index\), sizeof\(\(\(struct a \*\)0\)->index\)/);
  assert.match(c, /offsetof\(struct a, name\), \(size_t\)0/);
});
