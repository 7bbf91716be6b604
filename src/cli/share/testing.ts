/** For tests of the commands: a folder of this machine as a share, and what a command says. */
import * as fs from 'node:fs/promises';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import type { TestContext } from 'node:test';

import type { FacePath, ShareFiles } from './face.ts';
import { SHARE_COMMANDS } from './register.ts';
import type { Context } from './run.ts';
import { shCommand } from './sh.ts';

/** A folder as a share: paths begin in it, and `..` of it is it. */
export function folderShare(root: string): ShareFiles {
  const at = (path: FacePath): FacePath =>
    typeof path === 'string'
      ? join(root, posix.resolve('/', path))
      : Buffer.concat([Buffer.from(root), Buffer.from(path.at(0) === 0x2f ? '' : '/'), path]);
  return {
    lstat: (path, options) => fs.lstat(at(path), options),
    stat: (path, options) => fs.stat(at(path), options),
    statfs: (path, options) => fs.statfs(at(path), options),
    readdir: (path, options) => fs.readdir(at(path), options),
    readlink: (path, options) => fs.readlink(at(path), options),
    realpath: async (path) => Buffer.from((await fs.realpath(at(path))).slice(root.length) || '/'),
    open: (path, flags, mode) => fs.open(at(path), flags, mode),
    copyFile: (from, to, mode) => fs.copyFile(at(from), at(to), mode),
    symlink: (target, path) => fs.symlink(target, at(path)),
    mkdir: (path, options) => fs.mkdir(at(path), options),
    rmdir: (path) => fs.rmdir(at(path)),
    unlink: (path) => fs.unlink(at(path)),
    rename: (from, to) => fs.rename(at(from), at(to)),
    chmod: (path, mode) => fs.chmod(at(path), mode),
    lchown: (path, uid, gid) => fs.lchown(at(path), uid, gid),
    utimes: (path, atime, mtime) => fs.utimes(at(path), atime, mtime),
    lutimes: (path, atime, mtime) => fs.lutimes(at(path), atime, mtime),
  };
}

class Captured extends Writable {
  readonly chunks: Buffer[] = [];
  readonly isTTY: boolean;
  readonly columns = 60;

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.chunks.push(Buffer.from(chunk));
    done();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

export interface Said {
  readonly code: number;
  readonly out: string;
  readonly bytes: Buffer;
  readonly err: string;
}

export interface RunOptions {
  readonly share?: ShareFiles;
  readonly host?: ShareFiles;
  readonly terminal?: boolean;
  readonly signal?: AbortSignal;
  /** Standard input. */
  readonly input?: string;
}

export interface Place {
  /** Of the share, on this machine. */
  readonly root: string;
  readonly share: ShareFiles;
  /** A folder of this machine beside it. */
  readonly local: string;
  /** Runs a command with its words, as `sh` does with what is typed. */
  readonly run: (words: readonly string[], options?: RunOptions) => Promise<Said>;
}

/** A share in a temporary folder, which goes with the test. */
export function place(t: TestContext): Place {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-commands-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [root, local] = [join(folder, 'share'), join(folder, 'local')];
  for (const each of [root, local]) mkdirSync(each);
  const share = folderShare(root);
  const run = async (words: readonly string[], options: RunOptions = {}): Promise<Said> => {
    const [stdout, stderr] = [new Captured(options.terminal === true), new Captured(options.terminal === true)];
    const stdin = new PassThrough();
    stdin.end(options.input ?? '');
    const context: Context = {
      share: options.share ?? share,
      host: options.host ?? fs,
      label: '/run/test.sock',
      cwd: '/',
      stdin,
      stdout,
      stderr,
      signal: options.signal ?? new AbortController().signal,
    };
    const simple = SHARE_COMMANDS.filter(({ name }) => name !== 'sh');
    const sh = shCommand(simple);
    const code =
      words[0] === 'sh'
        ? await sh.run(context, [], words[1] === '-c' ? { command: words[2] } : {})
        : await sh.run(context, [], { command: words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ') });
    return { code, out: stdout.bytes.toString(), bytes: stdout.bytes, err: stderr.bytes.toString() };
  };
  return { root, share, local, run };
}
