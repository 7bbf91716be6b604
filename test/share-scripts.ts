/** What node:fs/promises does by paths, as sentences; share.test.ts holds a share against it. */
import { constants } from 'node:fs';
import { pathToFileURL } from 'node:url';

import { outcomes, type Scripts } from './share-bed.ts';

type Loose = never;

export const STAT_SCRIPTS: Scripts = {
  'stat follows symlinks and lstat does not': (fs, at) =>
    outcomes(
      () => fs.stat(at('/file')),
      () => fs.stat(at('/link')),
      () => fs.lstat(at('/link')),
      () => fs.stat(at('/dirlink/sub')),
      () => fs.lstat(at('/dangling')),
    ),
  'what is not there is told with the name of the call and the path': (fs, at) =>
    outcomes(
      () => fs.stat(at('/no')),
      () => fs.lstat(at('/no')),
      () => fs.stat(at('/dangling')),
      () => fs.stat(at('/file/below')),
      () => fs.access(at('/no')),
      () => fs.statfs(at('/no')),
      () => fs.readlink(at('/no')),
      () => fs.realpath(at('/no')),
      () => fs.unlink(at('/no')),
      () => fs.rmdir(at('/no')),
      () => fs.readdir(at('/no')),
      () => fs.opendir(at('/no')),
      () => fs.readFile(at('/no')),
      () => fs.rename(at('/no'), at('/other')),
      () => fs.link(at('/no'), at('/other')),
      () => fs.copyFile(at('/no'), at('/other')),
      () => fs.chmod(at('/no'), 0o600),
      () => fs.chown(at('/no'), 1, 1),
      () => fs.lchown(at('/no'), 1, 1),
      () => fs.utimes(at('/no'), 1, 1),
      () => fs.lutimes(at('/no'), 1, 1),
      () => fs.truncate(at('/no')),
      () => fs.mkdir(at('/no/dir')),
      () => fs.symlink('x', at('/no/link')),
      () => fs.rm(at('/no')),
      () => fs.open(at('/no')),
    ),
  'stat gives undefined for what is not there, if so asked': async (fs, at) =>
    await fs.stat(at('/no'), { throwIfNoEntry: false }),
  'bigint gives the same in bigints': async (fs, at) => {
    const stats = await fs.stat(at('/file'), { bigint: true });
    return [stats, typeof stats.mtimeNs, typeof stats.ino, stats.mtimeMs === stats.mtimeNs / 1_000_000n];
  },
  'times that are set are there again, in all forms': async (fs, at) => {
    await fs.utimes(at('/file'), 1.5, 1_700_000_000.25);
    const stats = await fs.stat(at('/file'));
    const { atimeNs, mtimeNs } = await fs.stat(at('/file'), { bigint: true });
    const instant = String(stats.mtimeInstant);
    const names = ['atimeMs', 'mtimeMs'] as const;
    return [names.map((name) => stats[name]), stats.atime, stats.mtime.toISOString(), atimeNs, mtimeNs, instant];
  },
  'times are taken as Date, as seconds and as text': async (fs, at) => {
    const seen: unknown[] = [];
    for (const time of [new Date(1234567), '77.125', 12, 1e9 + 0.123456789]) {
      await fs.utimes(at('/link'), time, time);
      await fs.lutimes(at('/dangling'), time, time);
      const stats = await fs.stat(at('/file'), { bigint: true });
      const { mtimeNs } = await fs.lstat(at('/dangling'), { bigint: true });
      seen.push([stats.atimeNs, stats.mtimeNs, mtimeNs]);
    }
    return seen;
  },
  'modes are numbers or octal digits': async (fs, at) => {
    await fs.chmod(at('/file'), 0o640);
    const first = await fs.stat(at('/file'));
    await fs.chmod(at('/link'), '711');
    return [first, await fs.stat(at('/file'))];
  },
  'an owner of -1 stays': async (fs, at) => {
    const { uid, gid } = await fs.stat(at('/file'));
    await fs.chown(at('/file'), -1, -1);
    await fs.lchown(at('/link'), uid, gid);
    return await fs.stat(at('/file'));
  },
  'access knows what is there and what one may': (fs, at) =>
    outcomes(
      () => fs.access(at('/file')),
      () => fs.access(at('/file'), fs.constants.R_OK | fs.constants.W_OK),
      () => fs.access(at('/file'), fs.constants.X_OK),
      () => fs.access(at('/dir'), fs.constants.X_OK),
    ),
  'statfs has the names of Node': async (fs, at) => [
    Object.keys(await fs.statfs(at('/dir'))),
    typeof (await fs.statfs(at('/dir'), { bigint: true })).blocks,
  ],
  'arguments of the wrong kind are refused with the words of Node': (fs, at) =>
    outcomes(
      () => fs.stat(undefined as Loose),
      () => fs.stat(5 as Loose),
      () => fs.stat({} as Loose),
      () => fs.stat('a\0b'),
      () => fs.stat(Buffer.from('a\0b')),
      () => fs.stat(new URL('https://example.org/')),
      () => fs.rename('a', null as Loose),
      () => fs.link(Symbol('a') as Loose, 'b'),
      () => fs.symlink((() => 1) as Loose, 'b'),
      () => fs.copyFile('a', [] as Loose),
      () => fs.access(at('/file'), 9),
      () => fs.access(at('/file'), 'r' as Loose),
      () => fs.chmod(at('/file'), '9'),
      () => fs.chmod(at('/file'), 1.5),
      () => fs.chmod(at('/file'), -1),
      () => fs.chmod(at('/file'), undefined as Loose),
      () => fs.chown(at('/file'), -2, 1),
      () => fs.chown(at('/file'), 1, 2 ** 33),
      () => fs.chown(at('/file'), 'root' as Loose, 1),
      () => fs.utimes(at('/file'), {} as Loose, 1),
      () => fs.truncate(at('/file'), 1.5),
      () => fs.truncate(at('/file'), 'x' as Loose),
      () => fs.readFile(at('/file'), 'utf99' as Loose),
      () => fs.readFile(at('/file'), { encoding: 'x' as Loose }),
      () => fs.readFile(at('/file'), { flag: 'rw' }),
      () => fs.readFile(at('/file'), 5 as Loose),
      () => fs.open(at('/file'), 'q'),
      () => fs.open(at('/file'), 2 ** 40),
      () => fs.writeFile(at('/file'), 5 as Loose),
      () => fs.writeFile(at('/file'), 'x', { flush: 1 as Loose }),
      () => fs.mkdir(at('/new'), 'zz'),
      () => fs.mkdir(at('/new'), { recursive: 1 as Loose }),
      () => fs.readdir(at('/dir'), 'none' as Loose),
      () => fs.copyFile(at('/file'), at('/new'), 9),
      () => fs.rm(at('/file'), { recursive: 'yes' as Loose }),
      () => fs.rm(at('/file'), { maxRetries: -1 }),
      () => fs.cp(at('/file'), at('/new'), { filter: 5 as Loose }),
      () => fs.cp(at('/file'), at('/new'), { dereference: true, verbatimSymlinks: true }),
    ),
};

export const NAME_SCRIPTS: Scripts = {
  'paths are strings, bytes and file URLs': async (fs, at) => {
    await fs.writeFile(Buffer.from(at('/b\u00e4r')), 'x');
    const url = pathToFileURL(at('/b\u00e4r'));
    return [
      await fs.readFile(url, 'utf8'),
      await fs.readFile(Buffer.from(at('/b\u00e4r'))),
      await outcomes(() => fs.stat(new URL(`${url.href}2`))),
    ];
  },
  'names that are no UTF-8 are kept as bytes': async (fs, at) => {
    const path = Buffer.concat([Buffer.from(at('/dir/')), Buffer.from([0x66, 0xff, 0x66])]);
    await fs.writeFile(path, 'x');
    const names = await fs.readdir(at('/dir'), 'buffer');
    const entries = await fs.readdir(at('/dir'), { encoding: 'buffer', withFileTypes: true });
    await fs.rm(at('/dir'), { recursive: true });
    return [names.map(String).toSorted(), entries.map(({ name }) => name.toString('hex')).toSorted()];
  },
  'rename moves files and directories, and refuses what does not fit': (fs, at) =>
    outcomes(
      () => fs.rename(at('/file'), at('/dir/sub/file')),
      () => fs.rename(at('/dir/sub'), at('/sub')),
      () => fs.rename(at('/sub'), at('/dir')),
      () => fs.rename(at('/empty'), at('/dir')),
      () => fs.rename(at('/dir'), at('/dir/one/x')),
    ),
  'links count, and are not made over what is there': (fs, at) =>
    outcomes(
      () => fs.link(at('/file'), at('/second')),
      () => fs.stat(at('/second')),
      () => fs.link(at('/file'), at('/second')),
      () => fs.unlink(at('/file')),
      () => fs.readFile(at('/second'), 'utf8'),
    ),
  'symlinks say what they were told': (fs, at) =>
    outcomes(
      () => fs.symlink('some/../where', at('/new')),
      () => fs.readlink(at('/new')),
      () => fs.readlink(at('/new'), 'buffer'),
      () => fs.readlink(at('/new'), { encoding: 'hex' }),
      () => fs.readlink(at('/file')),
      () => fs.symlink('x', at('/file')),
      () => fs.symlink('dir', at('/typed'), 'dir'),
      () => fs.realpath(at('/dirlink/sub/up')),
      () => fs.realpath(at('/dirlink'), 'buffer'),
      () => fs.realpath(at('/dangling')),
    ),
  'unlink and rmdir each take what is theirs': (fs, at) =>
    outcomes(
      () => fs.unlink(at('/dir')),
      () => fs.rmdir(at('/file')),
      () => fs.rmdir(at('/dir')),
      () => fs.unlink(at('/link')),
      () => fs.unlink(at('/file')),
    ),
  'lchmod is not there on Linux': (fs, at) => outcomes(() => fs.lchmod(at('/file'), 0o600)),
};

export const DIRECTORY_SCRIPTS: Scripts = {
  'readdir gives names in any encoding': async (fs, at) => {
    const lists = await outcomes(
      () => fs.readdir(at('/dir')),
      () => fs.readdir(at('/dir'), 'hex'),
      () => fs.readdir(at('/dir'), { encoding: null }),
      () => fs.readdir(at('/dirlink/')),
    );
    return lists.map((list) => (list as string[]).toSorted());
  },
  'readdir gives types': async (fs, at) => {
    const entries = await fs.readdir(at('/'), { withFileTypes: true });
    return entries
      .toSorted((one, other) => one.name.localeCompare(other.name))
      .map((entry) => [entry.name, entry.isFile(), entry.isDirectory(), entry.isSymbolicLink(), entry.isFIFO()]);
  },
  'readdir goes down if so asked': async (fs, at) => {
    const names = [await fs.readdir(at('/dir'), { recursive: true }), await fs.readdir(at('/'), { recursive: true })];
    const entries = await fs.readdir(at('/dir'), { recursive: true, withFileTypes: true });
    const byPath = (entry: { name: string; parentPath: string }) => `${entry.parentPath}/${entry.name}`;
    return [
      names.map((each) => each.toSorted()),
      entries.toSorted((one, other) => byPath(one).localeCompare(byPath(other))),
    ];
  },
  'what is no directory has no entries': (fs, at) =>
    outcomes(
      () => fs.readdir(at('/file')),
      () => fs.opendir(at('/file')),
      () => fs.rm(at('/file/x')),
    ),
  'a Dir is read entry by entry, and iterated': async (fs, at) => {
    const dir = await fs.opendir(at('/dir'));
    const names: unknown[] = [dir.path];
    for (let entry = await dir.read(); entry !== null; entry = await dir.read()) names.push(entry.name);
    names.push(await dir.read());
    await dir.close();
    const all: string[] = [];
    for await (const entry of await fs.opendir(at('/dir'), { bufferSize: 1 })) all.push(entry.name);
    return [
      names.map(String).toSorted(),
      all.toSorted(),
      await outcomes(
        () => dir.read(),
        () => dir.close(),
      ),
    ];
  },
  'a Dir goes down if so asked': async (fs, at) => {
    const all: string[] = [];
    for await (const { parentPath, name } of await fs.opendir(at('/dir'), { recursive: true })) {
      all.push(`${parentPath}/${name}`);
    }
    return all.toSorted();
  },
  'mkdir makes one directory, with a mode': (fs, at) =>
    outcomes(
      () => fs.mkdir(at('/a')),
      () => fs.mkdir(at('/b'), 0o700),
      () => fs.mkdir(at('/c'), { mode: '750' }),
      () => fs.mkdir(at('/a')),
      () => fs.mkdir(at('/x/y')),
    ),
  'mkdir makes what is missing, and tells the first that it made': (fs, at) =>
    outcomes(
      () => fs.mkdir(at('/dir/a/b/c'), { recursive: true }),
      () => fs.mkdir(at('/dir/a/b/c'), { recursive: true }),
      () => fs.mkdir(at('/dir/a/b/d/'), { recursive: true, mode: 0o700 }),
      () => fs.mkdir(at('/file'), { recursive: true }),
      () => fs.mkdir(at('/file/a/b'), { recursive: true }),
      () => fs.mkdir(at('/dirlink/e'), { recursive: true }),
      () => fs.mkdir(at('/dangling/e'), { recursive: true }),
    ),
  'mkdtemp makes a directory for one alone': async (fs, at) => {
    const path = await fs.mkdtemp(at('/dir/tmp-'));
    const stats = await fs.stat(path);
    await fs.rmdir(path);
    const bytes = await fs.mkdtemp(at('/dir/tmp-'), 'buffer');
    await fs.rmdir(bytes);
    return [path.slice(0, -6), stats, bytes.length === Buffer.byteLength(path)];
  },
  'rm takes files, and directories only if told': (fs, at) =>
    outcomes(
      () => fs.rm(at('/dir')),
      () => fs.rm(at('/link')),
      () => fs.rm(at('/file')),
      () => fs.rm(at('/no'), { force: true }),
      () => fs.rm(at('/dirlink'), { recursive: true }),
      () => fs.rm(at('/dir'), { recursive: true, maxRetries: 2, retryDelay: 1 }),
      () => fs.rm(at('/dir'), { recursive: true }),
    ),
};

const PATTERNS = [
  '**',
  '*',
  '**/*.txt',
  'dir/**',
  './dir/*',
  'dir/../f*',
  '{dir,fi}*',
  '*.{txt,js}',
  'dir/*/',
  '**/',
  '.*',
  'dir/**/deep',
  'dirlink/*',
  '**/one',
  'file',
  'nope',
  'dir/',
  '[fe]*',
  '+(file|link)',
  '!(f*)',
  '**/**',
  '**/sub/**',
  '*/*',
  '{dir/o,f}*',
  'dir/su{b,c}/{two,up}*',
  '',
  '.',
  '..',
  'file/x',
];

export const GLOB_SCRIPTS: Scripts = {
  'glob finds what Node finds': async (fs, at) => {
    const found: Record<string, unknown> = {};
    for (const pattern of PATTERNS) {
      found[pattern] = (await Array.fromAsync(fs.glob(pattern, { cwd: at('/') }))).toSorted();
    }
    return found;
  },
  'glob takes several patterns, excludes and types': async (fs, at) => {
    const cwd = at('/');
    const lists = [
      await Array.fromAsync(fs.glob(['*.txt', 'f*', 'dir/*'], { cwd })),
      await Array.fromAsync(fs.glob('**', { cwd, exclude: (name) => name === 'sub' })),
      await Array.fromAsync(fs.glob('**', { cwd, exclude: ['dir/sub/deep', 'e*'] })),
      await Array.fromAsync(fs.glob('**', { cwd: at('/dir'), exclude: ['sub/**'] })),
      await Array.fromAsync(fs.glob(at('/dir/*'))),
      (await Array.fromAsync(fs.glob('dir/**/*.txt', { cwd, withFileTypes: true }))).map((each) => each.name),
      await Array.fromAsync(fs.glob('**', { cwd, followSymlinks: true })),
    ];
    return lists.map((list) => list.toSorted());
  },
};

export const FLAGS = [
  'r',
  'rs',
  'sr',
  'r+',
  'rs+',
  'w',
  'wx',
  'xw',
  'w+',
  'wx+',
  'a',
  'ax',
  'as',
  'a+',
  'ax+',
  'as+',
  'sa+',
];

export const NUMERIC_FLAGS = [constants.O_RDONLY, constants.O_WRONLY | constants.O_CREAT, constants.O_RDWR];
