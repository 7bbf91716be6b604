/** Rust virtiofsd, to be measured beside. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { findVirtiofsd, type Progress } from '../lab/index.ts';

export interface Peer {
  readonly command: readonly string[];
  readonly version: string;
}

/** The program that was given; else this machine's, or Debian's, which is fetched. */
export async function findPeer(program: string | undefined, progress?: Progress): Promise<Peer> {
  const command = program === undefined ? await findVirtiofsd({ progress }) : [program];
  const [file, ...args] = command;
  const { stdout } = await promisify(execFile)(file, [...args, '--version']);
  return { command, version: stdout.trim().replace(/^virtiofsd +/, '') };
}
