import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { openVolume, promised } from '../src/client/index.ts';
import { commonDaemon } from './daemon.ts';
import { type Bed, compare, type Scripts, type Way } from './share-bed.ts';
import { HostVolume } from './host-volume.ts';
import { ASYNC_SCRIPTS, FILE_SCRIPTS, HANDLE_SCRIPTS } from './share-file-scripts.ts';
import { DIRECTORY_SCRIPTS, GLOB_SCRIPTS, NAME_SCRIPTS, STAT_SCRIPTS } from './share-scripts.ts';

async function hostBed(folder: string): Promise<Bed> {
  const volume = new HostVolume(folder);
  const end = (): Promise<void> => rm(folder, { recursive: true, force: true });
  return { folder, volume, left: () => volume.opened.size, end };
}

const daemon = commonDaemon({ args: ['--stay'] });

/** One daemon for all, and a client for each. */
async function daemonBed(seeded: string): Promise<Bed> {
  const { share, socketPath } = daemon();
  for (const name of await readdir(seeded)) await rename(join(seeded, name), join(share, name));
  await rm(seeded, { recursive: true });
  const volume = await promised(openVolume(socketPath));
  const end = async (): Promise<void> => {
    await promised(volume.close());
    for (const name of await readdir(share)) await rm(join(share, name), { recursive: true, force: true });
  };
  return { folder: share, volume, left: () => volume.openFiles, end };
}

const BOTH: Scripts = { ...STAT_SCRIPTS, ...NAME_SCRIPTS, ...DIRECTORY_SCRIPTS, ...GLOB_SCRIPTS, ...FILE_SCRIPTS };
const WAYS: Readonly<Record<Way, Scripts>> = {
  Share: { ...BOTH, ...ASYNC_SCRIPTS, ...HANDLE_SCRIPTS },
  ShareSync: BOTH,
};

const BEDS = { 'as a face': hostBed, 'through a daemon of ours': daemonBed };

for (const [how, makeBed] of Object.entries(BEDS)) {
  for (const [way, scripts] of Object.entries(WAYS)) {
    describe(`${way} ${how} is as node:fs/promises`, () => {
      for (const [sentence, script] of Object.entries(scripts)) {
        test(sentence, () => compare(script, way as Way, makeBed));
      }
    });
  }
}
