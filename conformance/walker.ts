/** From paths to node ids, by LOOKUP and READLINK, with every count given back. */
import { ELOOP, ENOENT, ENOTDIR } from '../src/core/index.ts';
import { S_IFDIR, S_IFLNK, S_IFMT } from './constants.ts';
import type { Path } from './face.ts';
import type { FuseClient } from './fuse-client.ts';
import { entryOf } from './replies.ts';
import { failure } from './verdicts.ts';

export const ROOT_ID = 1n;
/** As many symlinks as Linux follows (include/linux/namei.h, MAXSYMLINKS). */
const MAX_LINKS = 40;
const SLASH = 0x2f;

export interface Place {
  readonly nodeid: bigint;
  readonly mode: number;
  readonly parent: Place | undefined;
}

/** A directory and a name in it. */
export interface Spot {
  readonly directory: Place;
  readonly name: Uint8Array;
}

const ROOT: Place = { nodeid: ROOT_ID, mode: S_IFDIR, parent: undefined };

/** The names of a path; what is between slashes, without the empty ones and '.'. */
function split(path: Uint8Array): Uint8Array[] {
  const names: Uint8Array[] = [];
  let from = 0;
  for (let i = 0; i <= path.length; i += 1) {
    if (i < path.length && path[i] !== SLASH) continue;
    const name = path.subarray(from, i);
    if (name.length > 0 && !(name.length === 1 && name[0] === 0x2e)) names.push(name);
    from = i + 1;
  }
  return names;
}

const isDotDot = (name: Uint8Array): boolean => name.length === 2 && name[0] === 0x2e && name[1] === 0x2e;

export class Walker {
  readonly #client: FuseClient;
  /** Node ids that this call was given, once for each time. */
  #given: bigint[] = [];

  constructor(client: FuseClient) {
    this.#client = client;
  }

  /** Counts a node id as given to this call. */
  count(nodeid: bigint): void {
    if (nodeid !== ROOT_ID && nodeid !== 0n) this.#given.push(nodeid);
  }

  /** Runs a call, and forgets what it was given. */
  call<T>(body: () => T): T {
    try {
      return body();
    } finally {
      this.forget(this.keep());
    }
  }

  /** What this call was given, which is the caller's to forget now. */
  keep(): bigint[] {
    const given = this.#given;
    this.#given = [];
    return given;
  }

  forget(given: readonly bigint[]): void {
    for (const nodeid of given) {
      this.#client.ask('FORGET', nodeid, { fields: { nlookup: 1 } });
    }
  }

  /** A name in a directory, without following it; throws ENOENT where there is none. */
  lookup(directory: Place, name: Uint8Array): Place {
    if ((directory.mode & S_IFMT) !== S_IFDIR) throw failure('walk', ENOTDIR, Buffer.from(name).toString());
    if (isDotDot(name)) return directory.parent ?? ROOT;
    const { nodeid, stat } = entryOf(this.#client.ask('LOOKUP', directory.nodeid, { names: [name] }));
    if (nodeid === 0n) throw failure('LOOKUP', ENOENT, Buffer.from(name).toString());
    this.count(nodeid);
    return { nodeid, mode: stat.mode, parent: directory };
  }

  /** The place of a path. */
  walk(path: Path, follow: boolean, from: Place = ROOT): Place {
    const { directory, name } = this.spot(path, follow, from);
    return name.length === 0 ? directory : this.lookup(directory, name);
  }

  /**
   * The directory of a path's last name, which need not exist. With `follow` a last name that is a symlink is followed,
   * so that the name may lie elsewhere. The name is empty where the path is a directory that was walked already.
   */
  spot(path: Path, follow: boolean, from: Place = ROOT): Spot {
    const names = split(Buffer.from(path));
    let place = Buffer.from(path)[0] === SLASH ? ROOT : from;
    let links = 0;
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const last = names.length === 0;
      if (last && !follow && !isDotDot(name)) {
        if ((place.mode & S_IFMT) !== S_IFDIR) throw failure('walk', ENOTDIR, Buffer.from(name).toString());
        return { directory: place, name };
      }
      const found = this.#lookupOrLast(place, name, last);
      if (found === undefined) return { directory: place, name };
      if ((found.mode & S_IFMT) !== S_IFLNK) {
        if (last) return isDotDot(name) ? { directory: found, name: new Uint8Array(0) } : { directory: place, name };
        place = found;
        continue;
      }
      links += 1;
      if (links > MAX_LINKS) throw failure('walk', ELOOP, Buffer.from(path).toString());
      const target = this.readlink(found.nodeid);
      if (target[0] === SLASH) place = ROOT;
      names.unshift(...split(target));
    }
    return { directory: place, name: new Uint8Array(0) };
  }

  #lookupOrLast(place: Place, name: Uint8Array, last: boolean): Place | undefined {
    try {
      return this.lookup(place, name);
    } catch (error) {
      if (last && (error as { errno?: number }).errno === ENOENT) return undefined;
      throw error;
    }
  }

  readlink(nodeid: bigint): Uint8Array {
    return new Uint8Array(this.#client.ask('READLINK', nodeid, { room: 4096 }).buffer);
  }
}
