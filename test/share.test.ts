import { describe, test } from 'node:test';

import { type Bed, compare, type Scripts, type Way } from './share-bed.ts';
import { HostVolume } from './host-volume.ts';
import { ASYNC_SCRIPTS, FILE_SCRIPTS, HANDLE_SCRIPTS } from './share-file-scripts.ts';
import { DIRECTORY_SCRIPTS, GLOB_SCRIPTS, NAME_SCRIPTS, STAT_SCRIPTS } from './share-scripts.ts';

async function hostBed(folder: string): Promise<Bed> {
  const volume = new HostVolume(folder);
  return { folder, volume, left: () => volume.opened.size, end: async () => undefined };
}

const BOTH: Scripts = { ...STAT_SCRIPTS, ...NAME_SCRIPTS, ...DIRECTORY_SCRIPTS, ...GLOB_SCRIPTS, ...FILE_SCRIPTS };
const WAYS: Readonly<Record<Way, Scripts>> = {
  Share: { ...BOTH, ...ASYNC_SCRIPTS, ...HANDLE_SCRIPTS },
  ShareSync: BOTH,
};

for (const [way, scripts] of Object.entries(WAYS)) {
  describe(`${way} is as node:fs/promises`, () => {
    for (const [sentence, script] of Object.entries(scripts)) {
      test(sentence, () => compare(script, way as Way, hostBed));
    }
  });
}
