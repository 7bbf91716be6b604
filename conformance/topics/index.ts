/** All behaviours, by topic. */
import type { Behaviour } from '../behaviour.ts';
import { data } from './data.ts';
import { descriptors } from './descriptors.ts';
import { directories } from './directories.ts';
import { links } from './links.ts';
import { locks } from './locks.ts';
import { mapping } from './mmap.ts';
import { modeBits } from './mode-bits.ts';
import { opening } from './open.ts';
import { paths } from './paths.ts';
import { permissions } from './permissions.ts';
import { renaming } from './rename.ts';
import { setId } from './set-id.ts';
import { space } from './space.ts';
import { special } from './special.ts';
import { times } from './times.ts';
import { settingTimes } from './utimens.ts';
import { acls, xattrs } from './xattrs.ts';

const TOPICS = [
  ...[opening, descriptors, paths, permissions, modeBits, setId, times, settingTimes, renaming, links],
  ...[directories, data, space, mapping, locks, xattrs, acls, special],
];
export const ALL_BEHAVIOURS: readonly Behaviour[] = TOPICS.flatMap((topic) => topic.behaviours);
