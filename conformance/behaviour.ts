import { SysError } from '../src/sys/index.ts';
import type { Face } from './face.ts';

/**
 * What a behaviour takes. A target says for each whether it has it, and else why not.
 * - `kernel`: a mounted file system; the answer is the kernel's, on what the file system told it
 * - `users`: calls made as several users, with permission checks
 * - `devices`: the right to make device nodes
 * - `owners`: the right to change owners
 * - `xattr`, `acl`, `mmap`, `locks`, `tmpfile`, `btime`: as they are called
 * - `atime`: reading moves the time of access
 */
export const NEEDS = [
  'kernel',
  'users',
  'devices',
  'owners',
  'xattr',
  'acl',
  'mmap',
  'locks',
  'tmpfile',
  'btime',
  'atime',
] as const;
export type Need = (typeof NEEDS)[number];

/** Notes that a target lacks something where a call that takes it fails. */
export function probe(missing: Map<Need, string>, need: Need, what: string, call: () => void): void {
  try {
    call();
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    missing.set(need, `${what}: ${error.code}`);
  }
}

/** One sentence, and the check that it holds. */
export interface Behaviour {
  readonly topic: string;
  readonly sentence: string;
  readonly needs: readonly Need[];
  /** In a folder of its own, which it gets empty. Throws Mismatch, NotApplicable, or the error of a call. */
  readonly check: (t: Face) => void;
}

export type Declare = (sentence: string, check: (t: Face) => void, ...needs: readonly Need[]) => void;

/** Behaviours that belong together. */
export class Topic {
  readonly name: string;
  readonly behaviours: Behaviour[] = [];
  readonly #needs: readonly Need[];

  /** @param needs what all of them take. */
  constructor(name: string, ...needs: readonly Need[]) {
    this.name = name;
    this.#needs = needs;
  }

  /** Adds one. */
  readonly test: Declare = (sentence, check, ...needs) => {
    this.behaviours.push({ topic: this.name, sentence, check, needs: [...this.#needs, ...needs] });
  };
}
