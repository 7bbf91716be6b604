/** What node:fs/promises does with whole files and trees of them, as sentences. */
import type { EventEmitter } from 'node:events';
import { Readable } from 'node:stream';

import { outcomes, type Scripts } from './share-bed.ts';
import { FLAGS, NUMERIC_FLAGS } from './share-scripts.ts';

export const FILE_SCRIPTS: Scripts = {
  'readFile gives bytes, or text in an encoding': (fs, at) =>
    outcomes(
      () => fs.readFile(at('/file')),
      () => fs.readFile(at('/file'), 'utf8'),
      () => fs.readFile(at('/file'), { encoding: 'base64' }),
      () => fs.readFile(at('/link'), null),
      () => fs.readFile(at('/empty'), 'latin1'),
      () => fs.readFile(at('/dir/sub/deep/three.txt'), { encoding: 'ascii', flag: 'r+' }),
      () => fs.readFile(at('/dir')),
      () => fs.readFile(at('/new'), { flag: 'a+' }),
      () => fs.readFile(at('/new2'), { flag: 'w' }),
    ),
  'readFile fills a buffer of the caller': (fs, at) =>
    outcomes(
      () => fs.readFile(at('/file'), { buffer: Buffer.alloc(20) }),
      () => fs.readFile(at('/file'), { buffer: (size: number) => Buffer.alloc(size) }),
      () => fs.readFile(at('/file'), { buffer: Buffer.alloc(3) }),
      () => fs.readFile(at('/file'), { buffer: 'no' as never }),
      () => fs.readFile(at('/empty'), { buffer: Buffer.alloc(3) }),
    ),
  'large files come and go whole': async (fs, at) => {
    const data = Buffer.alloc(3_500_001, 'virtiofs ');
    await fs.writeFile(at('/large'), data);
    const back = await fs.readFile(at('/large'));
    await fs.copyFile(at('/large'), at('/copy'));
    return [back.equals(data), data.equals(await fs.readFile(at('/copy')))];
  },
  'writeFile replaces, appendFile adds, and both make what is not there': async (fs, at) => {
    await fs.writeFile(at('/file'), 'new');
    await fs.writeFile(at('/made'), new Uint16Array([1, 2]), { mode: 0o600, flush: true });
    await fs.writeFile(at('/text'), '68656a', 'hex');
    await fs.appendFile(at('/file'), ' and more');
    await fs.appendFile(at('/added'), new DataView(new ArrayBuffer(3)), { mode: 0o640 });
    await fs.writeFile(at('/link'), 'xx', { flag: 'r+' });
    return await outcomes(
      () => fs.writeFile(at('/file'), 'x', { flag: 'wx' }),
      () => fs.writeFile(at('/dir'), 'x'),
      () => fs.writeFile(at('/no/where'), 'x'),
      () => fs.writeFile(at('/file'), 'x', { flag: 'r' }),
    );
  },
  'truncate cuts and fills': (fs, at) =>
    outcomes(
      () => fs.truncate(at('/file'), 3),
      () => fs.truncate(at('/empty'), 5),
      () => fs.truncate(at('/dir/one')),
      () => fs.truncate(at('/dir/sub/two.txt'), -4),
      () => fs.truncate(at('/dir')),
    ),
  'copyFile copies content and mode, and says why not': (fs, at) =>
    outcomes(
      () => fs.copyFile(at('/dir/sub/two.txt'), at('/two')),
      () => fs.copyFile(at('/file'), at('/dir/sub/deep/three.txt')),
      () => fs.copyFile(at('/link'), at('/fromlink'), fs.constants.COPYFILE_EXCL),
      () => fs.copyFile(at('/file'), at('/empty'), fs.constants.COPYFILE_EXCL),
      () => fs.copyFile(at('/file'), at('/file')),
      () => fs.copyFile(at('/file'), at('/cloned'), fs.constants.COPYFILE_FICLONE),
      () => fs.copyFile(at('/dir'), at('/x')),
      () => fs.copyFile(at('/file'), at('/dir')),
      () => fs.copyFile(at('/file'), at('/no/where')),
    ),
  'cp copies a tree': async (fs, at) => {
    await fs.utimes(at('/dir/one'), 1000, 2000);
    await fs.cp(at('/dir'), at('/made/copy'), { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    await fs.cp(at('/file'), at('/some/where'));
    await fs.cp(at('/link'), at('/deep/link'), { dereference: true });
    await fs.cp(at('/dir'), at('/flat'), { recursive: true, dereference: true });
    const { mtimeMs } = await fs.stat(at('/made/copy/one'));
    return mtimeMs;
  },
  'cp makes symlinks absolute unless told': async (fs, at) => {
    await fs.cp(at('/dirlink'), at('/other'));
    await fs.cp(at('/link'), at('/other2'), { verbatimSymlinks: true });
    const links = [await fs.readlink(at('/other')), await fs.readlink(at('/other2'))];
    await fs.cp(at('/link'), at('/other'));
    links.push(await fs.readlink(at('/other')));
    for (const name of ['/other', '/other2']) await fs.unlink(at(name));
    return links;
  },
  'cp takes what a filter wants': async (fs, at) => {
    const asked: string[] = [];
    const filter = (from: string, to: string) => {
      asked.push(`${from} ${to}`);
      return !from.endsWith('deep');
    };
    await fs.cp(at('/dir'), at('/copy'), { recursive: true, filter, verbatimSymlinks: true });
    await fs.cp(at('/file'), at('/never'), { filter: () => false });
    return asked.toSorted();
  },
  'cp leaves, replaces or refuses what is there': (fs, at) =>
    outcomes(
      () => fs.cp(at('/file'), at('/empty'), { force: false }),
      () => fs.cp(at('/file'), at('/empty'), { force: false, errorOnExist: true }),
      // Another name of the file that is replaced keeps what it has.
      () => fs.link(at('/dir/one'), at('/hard')),
      () => fs.cp(at('/file'), at('/dir/one')),
      () => fs.cp(at('/dir/sub'), at('/dir2'), { recursive: true, verbatimSymlinks: true }),
      () => fs.cp(at('/dir/sub/deep'), at('/dir2'), { recursive: true, verbatimSymlinks: true }),
    ),
  'cp refuses what cannot be': (fs, at) =>
    outcomes(
      () => fs.cp(at('/no'), at('/x')),
      () => fs.cp(at('/dir'), at('/x')),
      () => fs.cp(at('/file'), at('/file')),
      () => fs.cp(at('/file'), at('/dir')),
      () => fs.cp(at('/dir'), at('/file'), { recursive: true }),
      () => fs.cp(at('/dir'), at('/dir/sub/x'), { recursive: true }),
      () => fs.cp(at('/link'), at('/file')),
    ),
};

/** With what only an asynchronous face takes or gives. */
export const ASYNC_SCRIPTS: Scripts = {
  'writeFile takes iterables and streams': async (fs, at) => {
    await fs.writeFile(at('/list'), ['a', Buffer.from('b'), 'c']);
    await fs.writeFile(at('/stream'), Readable.from(['one, ', 'two']));
    await fs.writeFile(
      at('/generated'),
      (async function* () {
        yield '6869';
        yield new Uint8Array([33]);
      })(),
      'hex',
    );
    await fs.appendFile(at('/list'), new Set(['d']));
    return await outcomes(
      () => fs.writeFile(at('/wrong'), [5] as never),
      () =>
        fs.writeFile(
          at('/broken'),
          (function* () {
            yield 'a';
            throw new Error('no more');
          })(),
        ),
    );
  },
  'a signal ends reading and writing': (fs, at) => {
    const ended = AbortSignal.abort();
    const controller = new AbortController();
    return outcomes(
      () => fs.readFile(at('/file'), { signal: ended }),
      () => fs.writeFile(at('/file'), 'x', { signal: ended }),
      () =>
        fs.writeFile(
          at('/partly'),
          (async function* () {
            yield 'a';
            controller.abort();
            yield 'b';
          })(),
          { signal: controller.signal },
        ),
    );
  },
  'cp waits for what a filter promises': async (fs, at) => {
    await fs.cp(at('/dir'), at('/copy'), { recursive: true, filter: async (from) => !from.endsWith('up') });
  },
  'a temporary directory goes away by itself': async (fs, at) => {
    let path: string;
    {
      await using made = await fs.mkdtempDisposable(at('/dir/tmp-'));
      path = made.path;
      await fs.writeFile(`${path}/x`, 'x');
    }
    return await outcomes(() => fs.stat(path.slice(0, -6)));
  },
  'lstat throws for what is not there, whatever is asked': (fs, at) =>
    outcomes(() => fs.lstat(at('/no'), { throwIfNoEntry: false } as never)),
  'each flag opens as in Node': async (fs, at) => {
    const seen: unknown[] = [];
    for (const flags of [...FLAGS, ...NUMERIC_FLAGS]) {
      for (const path of ['/file', `/new-${flags}`]) {
        seen.push(
          await outcomes(async () => {
            await using handle = await fs.open(at(path), flags, 0o640);
            return await outcomes(
              () => handle.write('ab'),
              () => handle.read({ buffer: Buffer.alloc(4) }),
              () => handle.write('cd', 1),
              () => handle.read({ buffer: Buffer.alloc(4), position: 0 }),
            );
          }),
        );
      }
    }
    return seen;
  },
};

export const HANDLE_SCRIPTS: Scripts = {
  'a file has a position of its own': async (fs, at) => {
    await using handle = await fs.open(at('/file'), 'r+');
    const steps = await outcomes(
      () => handle.read(Buffer.alloc(5), 0, 5),
      () => handle.read(Buffer.alloc(5), 0, 5, 1),
      () => handle.read(Buffer.alloc(5), 1, 3, null),
      () => handle.write('XY'),
      () => handle.write(Buffer.from('Z'), 0, 1, 0),
      () => handle.read(Buffer.alloc(9), { length: 2 }),
      () => handle.read({ buffer: Buffer.alloc(9), offset: 1, position: 0n, length: 3 }),
      () => handle.read(Buffer.alloc(2), 0, 2, -1),
      () => handle.readFile('utf8'),
      () => handle.readFile('utf8'),
      () => handle.read(),
    );
    return steps;
  },
  'arguments of read and write are checked as in Node': async (fs, at) => {
    await using handle = await fs.open(at('/file'), 'r+');
    const bytes = Buffer.alloc(4);
    return await outcomes(
      () => handle.read(bytes, 3, 4, 0),
      () => handle.read(bytes, 0, 0, 0),
      () => handle.read(Buffer.alloc(0), 0, 4, 0),
      () => handle.read(bytes, -1, 1, 0),
      () => handle.read(bytes, 0, -1, 0),
      () => handle.read(bytes, 0, 1, 1.5),
      () => handle.read(bytes, 0, 1, '1' as never),
      () => handle.read(5 as never),
      () => handle.read({ buffer: 5 as never }),
      () => handle.write(bytes, 5, 1),
      () => handle.write(bytes, 1, 4),
      () => handle.write(bytes, 1, -1),
      () => handle.write({} as never),
      () => handle.write('x', null, 'nope' as never),
      () => handle.write(Buffer.alloc(0)),
      () => handle.readv([5] as never),
      () => handle.writev('x' as never),
      () => handle.truncate(1.5),
      () => handle.chmod('9'),
      () => handle.utimes({} as never, 1),
      () => handle.chown(-5, 1),
    );
  },
  'several buffers are read and written at once': async (fs, at) => {
    await using handle = await fs.open(at('/file'), 'r+');
    return await outcomes(
      () => handle.readv([Buffer.alloc(3), Buffer.alloc(4)]),
      () => handle.readv([Buffer.alloc(3), new Uint8Array(20)], 1),
      () => handle.writev([Buffer.from('ab'), Buffer.from('cd')]),
      () => handle.writev([Buffer.from('ef'), Buffer.from('gh')], 0),
      () => handle.writev([]),
      () => handle.readFile({ encoding: 'utf8' }),
    );
  },
  'what is appended goes to the end, and the position with it': async (fs, at) => {
    await using handle = await fs.open(at('/file'), 'a+');
    return await outcomes(
      () => handle.write('one', 0),
      () => handle.read(Buffer.alloc(4), 0, 4),
      () => handle.write('two'),
      () => handle.read(Buffer.alloc(4), 0, 4),
      () => handle.appendFile('three'),
      () => handle.writeFile('four'),
    );
  },
  'writeFile goes on from the position': async (fs, at) => {
    await using handle = await fs.open(at('/file'), 'r+');
    await handle.writeFile('1');
    await handle.writeFile(['2', Buffer.from('3')]);
    await handle.appendFile('4');
    await fs.writeFile(handle, '5');
    await fs.appendFile(handle, '6');
    return await fs.readFile(handle, 'utf8');
  },
  'an open file is changed and synced': async (fs, at) => {
    await using handle = await fs.open(at('/file'), 'r+');
    await handle.chmod(0o604);
    await handle.truncate(4);
    await handle.utimes(5, new Date(6000));
    await handle.sync();
    await handle.datasync();
    const { uid, gid } = await handle.stat();
    await handle.chown(uid, gid);
    const { atimeMs, mtimeMs } = await fs.stat(at('/file'));
    return [await handle.stat(), (await handle.stat({ bigint: true })).size, atimeMs, mtimeMs];
  },
  'a closed file is told from an open one': async (fs, at) => {
    const handle = await fs.open(at('/file'), 'r+');
    const closed: unknown[] = [];
    (handle as unknown as EventEmitter).on('close', () => closed.push('close'));
    await handle.close();
    const after = await outcomes(
      () => handle.close(),
      () => handle.read(Buffer.alloc(1)),
      () => handle.write('x'),
      () => handle.stat(),
      () => handle.readFile(),
      () => handle.writeFile('x'),
      () => handle.truncate(),
      () => handle.chmod(0o600),
      () => handle.chown(1, 1),
      () => handle.utimes(1, 1),
      () => handle.sync(),
      () => handle.datasync(),
      () => handle.readv([Buffer.alloc(1)]),
      () => handle.writev([Buffer.alloc(1)]),
    );
    return [handle.fd, closed, after];
  },
  'a file is read line by line and as a web stream': async (fs, at) => {
    await fs.writeFile(at('/lines'), 'one\r\ntwo\nthree');
    const lines: string[] = [];
    for await (const line of (await fs.open(at('/lines'))).readLines()) lines.push(line);
    const handle = await fs.open(at('/lines'));
    const pieces: Uint8Array[] = [];
    for await (const piece of handle.readableWebStream() as AsyncIterable<Uint8Array>) pieces.push(piece);
    await handle.close();
    return [lines, Buffer.concat(pieces).toString()];
  },
  'streams of an open file read and write': async (fs, at) => {
    const pieces: unknown[] = [];
    const handle = await fs.open(at('/file'));
    const stream = handle.createReadStream({ start: 2, end: 8, highWaterMark: 3, encoding: 'utf8' });
    for await (const piece of stream) pieces.push(piece);
    pieces.push(handle.fd, stream.bytesRead);
    const out = await fs.open(at('/out'), 'w');
    const writer = out.createWriteStream();
    await new Promise<void>((resolve, reject) => {
      writer.on('error', reject).on('close', resolve);
      writer.write('a');
      writer.end('b');
    });
    return [pieces, writer.bytesWritten, out.fd];
  },
};
