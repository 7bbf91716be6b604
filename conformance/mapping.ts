import { mmap, munmap, viewMemory } from '../src/sys/index.ts';
import type { Mapping } from './face.ts';
import { libc } from './libc.ts';

const msync = libc('msync', 3);

/** Maps an open file. `bytes` must not be touched beyond the file's end, nor after `unmap`. */
export function map(
  fd: number,
  length: number,
  protection: number,
  flags: number,
  offset: number,
  forget: () => void,
): Mapping {
  const address = mmap(length, protection, flags, fd, offset);
  let mapped = true;
  return {
    bytes: new Uint8Array(viewMemory(address, length)),
    sync: (how) => void msync(address, length, how),
    unmap: () => {
      if (mapped) munmap(address, length);
      mapped = false;
      forget();
    },
  };
}
