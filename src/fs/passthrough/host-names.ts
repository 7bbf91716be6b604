/** The names that a guest's extended attributes have on the host: by --xattrmap, and ACLs only with --posix-acl. */
import { EOPNOTSUPP } from '../../core/index.ts';
import type { Arena } from '../../sys/index.ts';
import { MAPPED_NAME_BYTES, type XattrMap } from './xattr-map.ts';

/**
 * ACLs are the guest's kernel's to understand, and it does only with POSIX_ACL: handed through as plain attributes they
 * would be enforced on the host alone.
 */
const ACL_PREFIX = new TextEncoder().encode('system.posix_acl_');
const CAPABILITY = new TextEncoder().encode('security.capability');

export class HostNames {
  readonly #map: XattrMap | undefined;
  readonly #acls: boolean;
  readonly #u8: Uint8Array;
  readonly #at: number;
  /** Where `find` puts a name that differs from the guest's. */
  readonly address: number;
  /** Address of the name of file capabilities where the host does not know them as such by it; else 0. */
  readonly capability: number;

  constructor(arena: Arena, map: XattrMap | undefined, acls: boolean) {
    this.#map = map;
    this.#acls = acls;
    this.#u8 = arena.u8;
    this.#at = arena.reserve(MAPPED_NAME_BYTES);
    this.address = arena.address + this.#at;
    const capabilityAt = arena.reserve(MAPPED_NAME_BYTES);
    const length = map?.mapClientName(CAPABILITY, 0, CAPABILITY.length, arena.u8, capabilityAt) ?? 0;
    this.capability = length > 0 ? arena.address + capabilityAt : 0;
  }

  /** 0: a name of the guest's is the host's too. 1: the host's is at `address`. Negative: an errno. */
  find(u8: Uint8Array, at: number, length: number): number {
    if (this.#hides(u8, at)) return -EOPNOTSUPP;
    if (this.#map === undefined) return 0;
    const mapped = this.#map.mapClientName(u8, at, length, this.#u8, this.#at);
    return mapped > 0 ? 1 : mapped;
  }

  /** Makes a list of the host's NUL-terminated names one of the guest's, in place; its new length. */
  filter(u8: Uint8Array, at: number, length: number): number {
    let kept = at;
    for (let name = at; name < at + length; ) {
      const end = u8.indexOf(0, name) + 1;
      const strip = this.#map === undefined ? 0 : this.#map.mapServerName(u8, name, end - 1 - name);
      if (strip >= 0 && !this.#hides(u8, name + strip)) {
        u8.copyWithin(kept, name + strip, end);
        kept += end - name - strip;
      }
      name = end;
    }
    return kept - at;
  }

  #hides(u8: Uint8Array, at: number): boolean {
    return !this.#acls && startsWith(u8, at, ACL_PREFIX);
  }
}

function startsWith(u8: Uint8Array, at: number, text: Uint8Array): boolean {
  for (let i = 0; i < text.length; i += 1) {
    if (u8[at + i] !== text[i]) return false;
  }
  return true;
}
