import { Segments } from '../memory/index.ts';

/**
 * One request as the driver laid it out: what the device may read, then what it may write. How the driver cut
 * it into descriptors means nothing (virtio 2.7.4.1) and does not show: adjacent pieces are joined.
 * Made once and filled again by every `pop`.
 */
export class Chain {
  /** The index of the first descriptor: the name under which the chain is pushed back. */
  head = 0;
  readonly readable: Segments;
  readonly writable: Segments;
  /** Descriptors that the chain was made of, those that refer to a table not counted. */
  descriptors = 0;

  /** `capacity`: pieces on each side; a chain with more is refused as a bad one. */
  constructor(capacity?: number) {
    this.readable = new Segments(capacity);
    this.writable = new Segments(capacity);
  }

  clear(): void {
    this.readable.clear();
    this.writable.clear();
    this.descriptors = 0;
  }
}
