/** What people do all day: git, npm, tar, find, grep, rm and SQLite. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import type { CpioEntry, FetchOptions } from '../../lab/index.ts';
import type { Place, Step, Suite } from '../workload.ts';
import { done, timed } from './in-guest.ts';
import { findNpm, type NpmProject, npmEntries, npmProject, withFolders } from './npm.ts';
import { everydayPrograms } from './programs.ts';
import { history, NEEDLE, needlesIn, sourceTree } from './source-tree.ts';
import { tarOf } from './tar.ts';

export interface EverydaySize {
  /** Of the history that is cloned. */
  readonly commits: number;
  readonly historyFiles: number;
  /** Of the tree that is unpacked and searched. */
  readonly treeFiles: number;
  /** Of the packages that npm installs, at most. */
  readonly packageFiles: number;
  /** Each a transaction. */
  readonly inserts: number;
}

export const EVERYDAY_SIZES = {
  full: { commits: 300, historyFiles: 600, treeFiles: 1500, packageFiles: 500, inserts: 200 },
  quick: { commits: 30, historyFiles: 60, treeFiles: 150, packageFiles: 100, inserts: 20 },
} as const;

/** In the guest's own memory: what comes from elsewhere in real life. */
const STATION = 'opt/everyday';
const NPM = 'usr/lib/node_modules/npm';
const NO_NPM = 'npm: this machine has none to take into the guest';

/** The history as a repository: in the guest's own memory, made once. */
const ORIGIN = '/tmp/everyday/origin.git';
const MAKE_ORIGIN = `[ -e ${ORIGIN}/made ] || {
  rm -rf ${ORIGIN}; git init --quiet --bare --initial-branch main ${ORIGIN}
  gunzip -c /${STATION}/history.gz | git -C ${ORIGIN} fast-import --quiet
  touch ${ORIGIN}/made
}`;

/** Without a network; what it has compiled is kept, in the guest's own memory. */
const NPM_CI = `export NODE_COMPILE_CACHE=/tmp/everyday/compiled
  node /${NPM}/bin/npm-cli.js ci --offline --cache /${STATION}/npm --logs-max=0 --no-audit --no-fund \\
    --no-update-notifier --ignore-scripts --loglevel error`;

/** npm has compiled what it uses when it has installed nothing once, here into the guest's own memory. */
const WARM_NPM = `[ -e /tmp/everyday/warm/node_modules ] || {
  mkdir -p /tmp/everyday/warm
  printf '{"name":"warm","version":"1.0.0"}' > /tmp/everyday/warm/package.json
  printf '{"name":"warm","version":"1.0.0","lockfileVersion":3,"packages":{"":{"name":"warm","version":"1.0.0"}}}' \\
    > /tmp/everyday/warm/package-lock.json
  ( cd /tmp/everyday/warm; ${NPM_CI}; mkdir -p node_modules ) > /dev/null
}`;

/**
 * Files that are older than the index, as they are in daily work. git reads the others again, as they may have changed
 * in the same second: the more of them, the faster they were cloned.
 */
const SETTLE = `git ls-files -z | xargs -0 touch -d '2020-01-01 00:00:00'; git update-index -q --refresh`;

interface StepOptions {
  readonly name: string;
  /** What its operations are, in the plural. */
  readonly operation: string;
  readonly operations: number;
  readonly script: string;
  /** Below the place's folder: where the script runs. */
  readonly folder?: string;
  readonly before?: string;
}

function step({ name, operation, operations, script, folder = '.', before }: StepOptions): Step {
  const inFolder = (place: Place): string => join(place.folder, folder);
  return {
    name,
    operation,
    before: before === undefined ? undefined : (place) => done(place.vm, inFolder(place), before),
    async run(place) {
      return { operations, seconds: await timed(place.vm, inFolder(place), script) };
    },
  };
}

function gitSteps({ commits }: EverydaySize): Step[] {
  return [
    step({
      name: 'git clone',
      operation: 'commits',
      operations: commits,
      before: `rm -rf clone; ${MAKE_ORIGIN}`,
      script: `git clone --quiet file://${ORIGIN} clone`,
    }),
    step({
      name: 'git status',
      operation: 'runs',
      operations: 1,
      folder: 'clone',
      before: SETTLE,
      script: `[ -z "$(git status --porcelain)" ] || { echo 'git status: a fresh clone is not clean' >&2; exit 1; }`,
    }),
  ];
}

/** A program that must print so many lines. Into a pipe: grep ends at its first line where all goes to /dev/null. */
function counted(program: string, lines: number): string {
  const wrong = `{ echo "${program.split(' ')[0]} found $found instead of ${lines}" >&2; exit 1; }`;
  return `found=$(${program} | wc -l); [ "$found" -eq ${lines} ] || ${wrong}`;
}

function treeSteps({ treeFiles }: EverydaySize): Step[] {
  const files = { operation: 'files', operations: treeFiles };
  return [
    step({
      name: 'tar x',
      ...files,
      before: 'rm -rf tree; mkdir tree',
      script: 'tar xf tree.tar -C tree',
    }),
    step({ name: 'find', ...files, script: counted("find tree -type f -size +0 -name '*.c'", treeFiles) }),
    step({ name: 'grep -r', ...files, script: counted(`grep -r ${NEEDLE} tree`, needlesIn(treeFiles)) }),
  ];
}

function npmSteps(project: NpmProject | undefined): Step[] {
  const files = { operation: 'files', operations: project?.files ?? 1, folder: 'project' };
  if (project === undefined) {
    const script = `echo '${NO_NPM}' >&2; exit 1`;
    return ['npm ci', 'rm -rf node_modules'].map((name) => step({ name, ...files, folder: '.', script }));
  }
  return [
    step({ name: 'npm ci', ...files, before: `rm -rf node_modules; ${WARM_NPM}`, script: NPM_CI }),
    step({
      name: 'rm -rf node_modules',
      ...files,
      before: '[ -d node_modules ] || { echo "npm ci has left no node_modules" >&2; exit 1; }',
      script: 'rm -rf node_modules',
    }),
  ];
}

function sqliteStep({ inserts }: EverydaySize): Step {
  const rows = Array.from({ length: inserts }, (_, i) => `INSERT INTO rows VALUES (${i}, 'the text of row ${i}');`);
  return step({
    name: 'SQLite inserts',
    operation: 'inserts',
    operations: inserts,
    before: `rm -f data.db*
      sqlite3 data.db 'PRAGMA journal_mode=DELETE; CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT);' > /dev/null`,
    script: `sqlite3 -bail data.db <<'END'\n${rows.join('\n')}\nEND`,
  });
}

function guestFiles(size: EverydaySize, npm: string | undefined, project: NpmProject | undefined): CpioEntry[] {
  const stream = gzipSync(history(size.historyFiles, size.commits));
  const station: CpioEntry[] = [
    ...withFolders([
      { kind: 'file', path: `${STATION}/history.gz`, bytes: stream },
      ...[...(project?.tarballs ?? [])].map(([path, bytes]) => {
        return { kind: 'file', path: `${STATION}/npm/_cacache/${path}`, bytes } as const;
      }),
    ]),
  ];
  return npm === undefined ? station : [...station, ...npmEntries(npm, NPM)];
}

/** What the place's folder needs at the start. */
function fill(folder: string, { treeFiles }: EverydaySize, project: NpmProject | undefined): void {
  const files = sourceTree(treeFiles).map(({ path, text }) => ({ path, bytes: Buffer.from(text) }));
  writeFileSync(join(folder, 'tree.tar'), tarOf(files));
  if (project === undefined) return;
  mkdirSync(join(folder, 'project'));
  writeFileSync(join(folder, 'project/package.json'), project.packageJson);
  writeFileSync(join(folder, 'project/package-lock.json'), project.lockFile);
}

/** @param npm the folder of an npm to take into the guest; absent: this machine's, if it has one. */
export function everyday(size: EverydaySize, npm: string | undefined = findNpm()): Suite {
  const project = npm === undefined ? undefined : npmProject(npm, size.packageFiles);
  return {
    name: 'everyday',
    packages: [],
    node: true,
    files: async (fetching?: FetchOptions) => [
      ...(await everydayPrograms(fetching)),
      ...guestFiles(size, npm, project),
    ],
    prepare: (hostFolder) => Promise.resolve(fill(hostFolder, size, project)),
    steps: [...gitSteps(size), ...treeSteps(size), ...npmSteps(project), sqliteStep(size)],
  };
}
