/** The options of `serve` that say who owns what, and what guests may do with attributes. docs/IDENTITY.md explains. */
import type { Command } from 'commander';

import { UserError } from '../core/index.ts';
import { acceptsAcls, parseIdRules, parseXattrMap, type PassthroughOptions } from '../fs/passthrough/index.ts';
import type { OfferedIdentity } from '../server/index.ts';

export interface IdentityFlags {
  readonly xattr: boolean;
  readonly xattrmap?: string;
  readonly posixAcl: boolean;
  readonly securityLabel: boolean;
  readonly killprivV2: boolean;
  readonly translateUid?: string[];
  readonly translateGid?: string[];
}

const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];

export function addIdentityOptions(command: Command): void {
  command
    .option('--xattr', 'pass extended attributes through', false)
    .option('--xattrmap <rules>', 'the names that they have on the host (implies --xattr): :map::user.virtiofs.:')
    .option('--posix-acl', 'ACLs, which guest and host then both enforce (implies --xattr)', false)
    .option('--security-label', "the guest's SELinux labels on what it creates (implies --xattr)", false)
    .option('--killpriv-v2', 'the daemon clears set-id bits when files change (the default)', true)
    .option('--no-killpriv-v2', 'the guest does it by itself, with more requests')
    .option('--translate-uid <rule>', 'other user ids on the host; several times: map:GUEST:HOST:COUNT', collect)
    .option('--translate-gid <rule>', 'other group ids on the host', collect);
}

export interface Identity {
  /** What the file system needs of it, and what is offered to the guest. */
  readonly fileSystem: Pick<PassthroughOptions, 'xattr' | 'identity'>;
  readonly offered: OfferedIdentity;
}

/** Throws UserError where options are wrong, or do not go together. */
export function identityOf(options: IdentityFlags): Identity {
  const { xattrmap, posixAcl, securityLabel, killprivV2: killPriv, translateUid, translateGid } = options;
  if (posixAcl && (translateUid !== undefined || translateGid !== undefined)) {
    const option = translateUid === undefined ? '--translate-gid' : '--translate-uid';
    throw new UserError(`${option} does not go with --posix-acl: the ids inside of ACLs would stay as they are.`);
  }
  const xattrRules = xattrmap === undefined ? undefined : parseXattrMap(xattrmap);
  if (posixAcl && xattrRules !== undefined && !acceptsAcls(xattrRules)) {
    throw new UserError(
      '--xattrmap gives ACLs another name or hides them, and --posix-acl needs them as they are: put ' +
        ':ok:all:system.posix_acl_:system.posix_acl_: before the other rules.',
    );
  }
  const uids = parseIdRules('--translate-uid', translateUid ?? []);
  const gids = parseIdRules('--translate-gid', translateGid ?? []);
  return {
    fileSystem: {
      xattr: options.xattr || xattrRules !== undefined || posixAcl || securityLabel,
      identity: { uids, gids, posixAcl, securityLabel, xattrRules },
    },
    offered: { posixAcl, securityLabel, killPriv },
  };
}
