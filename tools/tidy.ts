/** The house rules that no other tool knows: `node tools/tidy.ts`. CONTRIBUTING.md lists them. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { posix, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOMS, roomOf } from './rooms.ts';
import { readSource, type Source } from './source.ts';

const MAX_FILE_LINES = 500;
const MAX_FUNCTION_LINES = 70;
const MAX_COLUMNS = 120;
const TEXT = /\.(ts|js|json|md|sh|yml)$|^bin\/|^\.ci\/|^LICENSE$/;
const CODE = /\.(ts|js)$|^bin\/|^\.ci\//;
const UNFINISHED = new RegExp(['TO', 'DO|FIX', 'ME|X', 'XX'].join(''));
const SLEEP = /\bsetTimeout\b|\bscheduler\.wait\b/;
const CHANGES = ['Safety', 'Features', 'Internals'];

/** Files by their paths from the root. */
export type Files = ReadonlyMap<string, string>;

const isTest = (path: string): boolean => path.endsWith('.test.ts');

/** Every breach of a rule as `path:line: what`. */
export function check(files: Files): string[] {
  const found: string[] = [];
  const sources = new Map<string, Source>();
  for (const [path, text] of files) {
    if (TEXT.test(path)) found.push(...checkLines(path, text));
    if (path.endsWith('.ts')) sources.set(path, readSource(path, text));
  }
  for (const [path, source] of sources) {
    found.push(...checkSize(path, files.get(path) as string, source));
    for (const { specifier, line } of source.imports) {
      const what = checkImport(path, specifier);
      if (what !== undefined) found.push(`${path}:${line}: ${what}`);
    }
  }
  found.push(...checkDead(files, sources), ...checkProjects(files), ...checkChangelog(files.get('CHANGELOG.md')));
  return found.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
}

/** Characters, columns, leftovers, sleeps. */
function checkLines(path: string, text: string): string[] {
  const found: string[] = [];
  const lines = text.split('\n');
  lines.forEach((line, i) => {
    const where = `${path}:${i + 1}`;
    const strange = /[^\t\x20-\x7e]/.exec(line);
    if (strange) found.push(`${where}: not ASCII: ${JSON.stringify(strange[0])}`);
    if (CODE.test(path) && line.length > MAX_COLUMNS) found.push(`${where}: ${line.length} columns`);
    const unfinished = UNFINISHED.exec(line);
    if (unfinished) found.push(`${where}: ${unfinished[0]}: finish it, or write an issue`);
    const deadline = /deadline/i.test(line) || /\/\/.*deadline/i.test(lines[i - 1] ?? '');
    if (isTest(path) && SLEEP.test(line) && !deadline) {
      found.push(`${where}: a sleep in a test; wait for what happens (a time limit says 'deadline' in a comment)`);
    }
  });
  return found;
}

function checkSize(path: string, text: string, source: Source): string[] {
  const found: string[] = [];
  const lines = text.trimEnd().split('\n').length;
  if (!isTest(path) && lines > MAX_FILE_LINES) found.push(`${path}:1: ${lines} lines, over ${MAX_FILE_LINES}`);
  for (const { line, lines: count } of source.functions) {
    if (count > MAX_FUNCTION_LINES)
      found.push(`${path}:${line}: a function of ${count} lines, over ${MAX_FUNCTION_LINES}`);
  }
  return found;
}

/** What is wrong with an import, if anything. */
function checkImport(path: string, specifier: string): string | undefined {
  const room = roomOf(path);
  if (room === undefined) return undefined;
  if (!specifier.startsWith('.')) return checkPackage(path, room, specifier);
  const target = posix.join(posix.dirname(path), specifier);
  const other = roomOf(target);
  if (other === room || other === undefined || isTest(path)) return undefined;
  if (!ROOMS[room].imports.includes(other)) return `${room} may not import ${other}`;
  if (ROOMS[room].inspects) return undefined;
  const door = ROOMS[other].door ?? 'no file of it';
  return target === `${other}/${door}` ? undefined : `${other} is entered through ${door} alone`;
}

function checkPackage(path: string, room: string, specifier: string): string | undefined {
  if (specifier === 'node:ffi') return path === 'src/sys/ffi.ts' ? undefined : 'only src/sys/ffi.ts imports node:ffi';
  if (specifier.startsWith('node:')) {
    return ROOMS[room].pure && !isTest(path) ? `${room} is pure and imports nothing of Node` : undefined;
  }
  const allowed = [...(ROOMS[room].packages ?? []), ...(isTest(path) ? ['fast-check'] : [])];
  return allowed.includes(specifier) ? undefined : `${room} may not import the package ${specifier}`;
}

/** Files that nothing starts and nobody but their own test imports. */
function checkDead(files: Files, sources: ReadonlyMap<string, Source>): string[] {
  const used = new Set<string>();
  for (const [path, { imports }] of sources) {
    for (const { specifier } of imports) {
      if (!specifier.startsWith('.')) continue;
      const target = posix.join(posix.dirname(path), specifier);
      // What only tests use is called what it is: testing.ts.
      if (!isTest(path) || posix.basename(target).startsWith('testing')) used.add(target);
    }
  }
  const found: string[] = [];
  for (const path of sources.keys()) {
    const name = roomOf(path);
    if (name === undefined) {
      found.push(`${path}:1: belongs to no room (tools/rooms.ts)`);
      continue;
    }
    const { door, starts = [], inspects } = ROOMS[name];
    // Measurements are started by hand; helpers of tests are knip's to find.
    if (inspects) continue;
    const inRoom = path.slice(name.length + 1);
    if (!isTest(path) && inRoom !== door && !starts.includes(inRoom) && !used.has(path)) {
      found.push(`${path}:1: nothing imports it`);
    }
  }
  for (const [name, { starts = [] }] of Object.entries(ROOMS)) {
    const gone = starts.filter((start) => sources.size > 0 && inUse(files, name) && !files.has(`${name}/${start}`));
    found.push(...gone.map((start) => `tools/rooms.ts:1: ${name}/${start} does not exist`));
  }
  return found;
}

function inUse(files: Files, room: string): boolean {
  return [...files.keys()].some((path) => path.endsWith('.ts') && roomOf(path) === room);
}

/** Project references say to tsc what tools/rooms.ts says to us. */
function checkProjects(files: Files): string[] {
  const found: string[] = [];
  for (const [name, { imports }] of Object.entries(ROOMS)) {
    const path = `${name}/tsconfig.json`;
    const text = files.get(path);
    if (text === undefined) {
      if (inUse(files, name)) found.push(`${path}:1: is missing`);
      continue;
    }
    const { references = [] } = JSON.parse(text) as { references?: { path: string }[] };
    const names = references.map((reference) => posix.join(name, reference.path)).toSorted();
    const wanted = imports.toSorted();
    if (names.join() !== wanted.join()) found.push(`${path}:1: references ${names.join(' ')}, not ${wanted.join(' ')}`);
  }
  return found;
}

/** Users read it: there is always a place for what comes next. */
function checkChangelog(text: string | undefined): string[] {
  if (text === undefined) return ['CHANGELOG.md:1: is missing'];
  const lines = text.split('\n');
  const sections = lines.filter((line) => line.startsWith('## '));
  const found = sections[0] === '## Unreleased' ? [] : ["CHANGELOG.md:1: the first section is not '## Unreleased'"];
  lines.forEach((line, i) => {
    const heading = /^### (.*)/.exec(line)?.[1];
    if (heading !== undefined && !CHANGES.includes(heading)) {
      found.push(`CHANGELOG.md:${i + 1}: '${heading}' is none of ${CHANGES.join(', ')}`);
    }
  });
  return found;
}

/** The files of the repository: what is tracked, and what could be. */
function repository(root: string): Files {
  const git = ['ls-files', '--cached', '--others', '--exclude-standard', '-z'];
  const paths = execFileSync('git', git, { cwd: root, encoding: 'utf8' }).split('\0');
  const present = paths.filter((path) => path !== '' && existsSync(resolve(root, path)));
  return new Map(present.map((path) => [path, TEXT.test(path) ? readFileSync(resolve(root, path), 'utf8') : '']));
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const found = check(repository(resolve(import.meta.dirname, '..')));
  for (const line of found) console.log(line);
  if (found.length > 0) console.log(`tidy: ${found.length} to mend`);
  process.exitCode = found.length > 0 ? 1 : 0;
}
