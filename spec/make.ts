/**
 * Makes spec/fuse.json from the kernel's own header, by way of a C compiler: `node spec/make.ts INCLUDE_DIRECTORY`.
 * What the header declares is found here; every number is the compiler's.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

export interface Declarations {
  readonly structs: readonly { readonly name: string; readonly fields: readonly Field[] }[];
  readonly enums: readonly { readonly name: string; readonly members: readonly string[] }[];
  readonly defines: readonly string[];
}

interface Field {
  readonly name: string;
  /** `name[]`: no size of its own. */
  readonly flexible: boolean;
}

/** The structs, enums and number macros that a C header declares. Throws on a declaration it cannot read. */
export function readHeader(text: string): Declarations {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, ' ').replace(/\/\/.*$/gm, ' ');
  const defines = [...code.matchAll(/^#define\s+(\w+)[ \t]+(\S.*)$/gm)]
    // Function-like macros have no blank before '('; ioctl numbers and page sizes are not ours to know.
    .filter(([, name, value]) => !/_IOC_|REMOVEMAPPING_MAX_ENTRY/.test(name) && !value.endsWith('\\'))
    .map(([, name]) => name);
  const structs: { name: string; fields: Field[] }[] = [];
  for (const match of code.matchAll(/^struct\s+(\w+)\s*\{/gm)) {
    structs.push({ name: match[1], fields: readFields(body(code, match.index + match[0].length)) });
  }
  const enums = [...code.matchAll(/^enum\s+(\w+)\s*\{([^}]*)\}/gm)].map(([, name, members]) => ({
    name,
    members: [...members.matchAll(/(\w+)\s*=/g)].map(([, member]) => member),
  }));
  return { structs, enums, defines };
}

/** The text up to the brace that closes what was opened before `start`. */
function body(code: string, start: number): string {
  let depth = 1;
  for (let i = start; i < code.length; i += 1) {
    if (code[i] === '{') depth += 1;
    if (code[i] === '}') depth -= 1;
    if (depth === 0) return code.slice(start, i);
  }
  throw new Error(`no closing brace after: ${code.slice(start, start + 40)}`);
}

/** The members of a struct's body. Those of an anonymous union or struct count as its own. */
function readFields(text: string): Field[] {
  const fields: Field[] = [];
  let rest = text.trim();
  while (rest !== '') {
    const nested = /^(?:struct|union)\s*\{/.exec(rest);
    if (nested) {
      const inner = body(rest, nested[0].length);
      const end = rest.indexOf(';', nested[0].length + inner.length);
      const name = rest.slice(nested[0].length + inner.length + 1, end).trim();
      fields.push(...(name === '' ? readFields(inner) : [{ name, flexible: false }]));
      rest = rest.slice(end + 1).trim();
      continue;
    }
    const plain = /^(?:struct\s+)?\w+\s+(\w+)\s*(\[\w*\])?\s*;/.exec(rest);
    if (!plain) throw new Error(`not a member: ${rest.slice(0, 60)}`);
    fields.push({ name: plain[1], flexible: plain[2] === '[]' });
    rest = rest.slice(plain[0].length).trim();
  }
  return fields;
}

/** A C program that prints the JSON. */
export function program(header: string, { structs, enums, defines }: Declarations): string {
  const lines = ['#include <stddef.h>', '#include <stdint.h>', '#include <stdio.h>', `#include <${header}>`];
  // An int such as 1 << 31 is a word of 32 bits, not a negative number.
  lines.push('#define N(x) (sizeof(x) == 4 ? (unsigned long long)(uint32_t)(x) : (unsigned long long)(x))');
  lines.push('int main(void) {', '  printf("\\"structs\\": {\\n");');
  structs.forEach(({ name, fields }, i) => {
    const parts = fields.map((field) => `\\"${field.name}\\": [%zu, %zu]`).join(', ');
    const values = fields.map(
      ({ name: field, flexible }) =>
        `offsetof(struct ${name}, ${field}), ${flexible ? '(size_t)0' : `sizeof(((struct ${name} *)0)->${field})`}`,
    );
    const comma = i < structs.length - 1 ? ',' : '';
    const format = `  \\"${name}\\": { \\"size\\": %zu, \\"fields\\": { ${parts} } }${comma}\\n`;
    lines.push(`  printf("${format}", ${[`sizeof(struct ${name})`, ...values].join(', ')});`);
  });
  lines.push('  printf("},\\n\\"enums\\": {\\n");');
  enums.forEach(({ name, members }, i) => {
    lines.push(
      `  printf("  \\"${name}\\": {\\n");`,
      ...members.map((member, j) => line(member, j < members.length - 1)),
    );
    lines.push(`  printf("  }${i < enums.length - 1 ? ',' : ''}\\n");`);
  });
  lines.push('  printf("},\\n\\"defines\\": {\\n");');
  lines.push(...defines.map((name, i) => line(name, i < defines.length - 1)));
  lines.push('  printf("}\\n");', '  return 0;', '}');
  return `${lines.join('\n')}\n`;
}

function line(name: string, more: boolean): string {
  return `  printf("    \\"${name}\\": %llu${more ? ',' : ''}\\n", N(${name}));`;
}

/** The JSON of `linux/fuse.h` below an include directory. Needs `cc`. */
export function make(include: string): string {
  const declarations = readHeader(readFileSync(join(include, 'linux/fuse.h'), 'utf8'));
  const version = readFileSync(join(include, 'linux/version.h'), 'utf8');
  const part = (name: string): string => new RegExp(`LINUX_VERSION_${name} (\\d+)`).exec(version)?.[1] ?? '?';
  const source = `linux ${part('MAJOR')}.${part('PATCHLEVEL')}.${part('SUBLEVEL')}, include/uapi/linux/fuse.h`;
  const directory = mkdtempSync(join(tmpdir(), 'virtiofs-spec-'));
  try {
    writeFileSync(join(directory, 'layout.c'), program('linux/fuse.h', declarations));
    // The system's own headers come first in a search by -isystem order, so the directory is given with -I.
    execFileSync('cc', ['-I', include, '-o', join(directory, 'layout'), join(directory, 'layout.c')]);
    const output = execFileSync(join(directory, 'layout'), { encoding: 'utf8' });
    return `{\n"source": "${source}",\n${output}}\n`;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const include = process.argv[2];
  if (include === undefined) {
    process.stderr.write('usage: node spec/make.ts INCLUDE_DIRECTORY (which holds linux/fuse.h)\n');
    process.exit(2);
  }
  writeFileSync(new URL('./fuse.json', import.meta.url), make(include));
}
