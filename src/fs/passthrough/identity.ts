/** What the options of identity (ids, ACLs, labels, names of attributes) come to in a worker. */
import { Arena } from '../../sys/index.ts';
import { Credentials } from './credentials.ts';
import { IdMap, type IdRules } from './id-map.ts';
import { HostNames } from './host-names.ts';
import { XattrMap, type XattrRule } from './xattr-map.ts';

export interface IdentityOptions {
  readonly uids: IdRules;
  readonly gids: IdRules;
  /** The guest understands ACLs; the host applies default ACLs, and the umask where there is none. */
  readonly posixAcl: boolean;
  /** The guest sends the security label of what it creates. */
  readonly securityLabel: boolean;
  /** The names that attributes have on the host; undefined: their own. */
  readonly xattrRules: readonly XattrRule[] | undefined;
}

/** What crosses threads. */
export interface SharedIdentity extends IdentityOptions {
  readonly credentials: SharedArrayBuffer;
}

/** A worker's own. */
export interface WorkerIdentity {
  /** For everything that the worker's operations reserve. */
  readonly arena: Arena;
  readonly credentials: Credentials;
  readonly uids: IdMap;
  readonly gids: IdMap;
  readonly hostNames: HostNames;
  readonly securityLabel: boolean;
}

const ARENA_BYTES = 256 * 1024;
const NO_RULES: IdRules = { toHost: [], toGuest: [] };

export function shareIdentity(options: Partial<IdentityOptions> = {}): SharedIdentity {
  return {
    uids: NO_RULES,
    gids: NO_RULES,
    posixAcl: false,
    securityLabel: false,
    xattrRules: undefined,
    ...options,
    credentials: Credentials.share(),
  };
}

/** `changes`: the calling thread is a worker's, which may become somebody else. Throws SysError. */
export function openIdentity(shared: SharedIdentity, changes: boolean): WorkerIdentity {
  const arena = new Arena(ARENA_BYTES);
  const uids = new IdMap(shared.uids);
  const gids = new IdMap(shared.gids);
  const { xattrRules, posixAcl, securityLabel } = shared;
  return {
    arena,
    uids,
    gids,
    credentials: new Credentials({ arena, uids, gids, shared: shared.credentials, masks: posixAcl, changes }),
    hostNames: new HostNames(arena, xattrRules && new XattrMap(xattrRules), posixAcl),
    securityLabel,
  };
}
