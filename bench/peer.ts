/** Rust virtiofsd, to be measured beside. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { findVirtiofsd, messageOf, type Progress } from '../lab/index.ts';
import { UserError } from '../src/core/index.ts';

export interface Peer {
  readonly command: readonly string[];
  readonly version: string;
}

const WHAT_TO_DO = 'Name the program of Rust virtiofsd, or none: then it is looked for, and fetched where it is not.';

/**
 * The program that was given; else this machine's, or Debian's, which is fetched. Throws UserError for one that is no
 * Rust virtiofsd, LabError where none can be fetched.
 */
export async function findPeer(program: string | undefined, progress?: Progress): Promise<Peer> {
  const command = program === undefined ? await findVirtiofsd({ progress }) : [program];
  const said = await versionOf(command);
  if (!/^virtiofsd\b/.test(said)) {
    const what = `with --version it says '${said.slice(0, 60)}', which Rust virtiofsd does not`;
    throw new UserError(`${command.join(' ')}: ${what}. ${WHAT_TO_DO}`);
  }
  return { command, version: said.replace(/^virtiofsd +/, '') };
}

/** What keeps it in its folder, at no cost for a request: chroot(2) is for root. */
export function sandboxOf(uid: number | undefined): string {
  return uid === 0 ? 'chroot' : 'none';
}

async function versionOf([file, ...args]: readonly string[]): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(file, [...args, '--version']);
    return stdout.trim();
  } catch (cause) {
    throw new UserError(`${file}: Rust virtiofsd cannot be run: ${messageOf(cause).trim()}. ${WHAT_TO_DO}`, { cause });
  }
}
