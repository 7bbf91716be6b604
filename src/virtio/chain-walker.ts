import { ByteView, type GuestMemory, gatherInto, Segments } from '../memory/index.ts';
import type { Chain } from './chain.ts';
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_WORDS,
  INDIRECT_MAX,
  NO_RINGS,
} from './layout.ts';

/** Pieces that the table of one chain may lie in: as many as a front-end may have regions. */
const TABLE_PIECES = 512;
/** virtio 2.7.5.2: no chain is longer than 2^32 bytes. */
const CHAIN_MAX_BYTES = 2 ** 32;
const OUTSIDE = 'a descriptor outside guest memory';

/**
 * Reads chains of descriptors out of a queue's table. All that the driver may have written there is checked, and each
 * field is read once, so a walk ends and finds nothing but guest memory. Nothing is allocated.
 */
export class ChainWalker {
  readonly #memory: GuestMemory;
  #size = 0;
  #indirect = false;
  #descriptors = NO_RINGS.descriptors;
  /** The indirect table of the chain at hand: `#table[#tableAt]` is its first word. */
  #table: Uint32Array = NO_RINGS.descriptors;
  #tableAt = 0;
  readonly #tablePieces = new Segments(TABLE_PIECES);
  /** For tables that lie across regions or at odd addresses. */
  readonly #tableCopy = new ByteView(new Uint8Array(INDIRECT_MAX * DESCRIPTOR_BYTES));

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** `descriptors`: the table of `size` entries. `indirect`: VIRTIO_F_INDIRECT_DESC is negotiated. */
  start(descriptors: Uint32Array, size: number, indirect: boolean): void {
    this.#descriptors = descriptors;
    this.#size = size;
    this.#indirect = indirect;
  }

  stop(): void {
    this.#size = 0;
    this.#descriptors = NO_RINGS.descriptors;
    this.#table = NO_RINGS.descriptors;
  }

  /**
   * Fills `chain` from the descriptors that begin at `head`. What is wrong, with a chain without segments, or ''. Where
   * only some of its memory is not there, the chain has the rest, for an answer: a driver may take silence for success.
   */
  walk(chain: Chain, head: number): string {
    chain.head = head;
    chain.clear();
    const error = this.#fill(chain, head);
    if (error !== '' && error !== OUTSIDE) chain.clear();
    return error;
  }

  #fill(chain: Chain, head: number): string {
    if (head >= this.#size) return 'a head outside the table';
    let table = this.#descriptors;
    let tableAt = 0;
    let entries = this.#size;
    let inTable = false;
    let index = head;
    let sawWritable = false;
    let outside = false;
    for (let hops = 0; ; hops += 1) {
      // Whoever goes through more entries than there are meets one twice (virtio 2.7.5.2: loops are forbidden).
      if (hops === entries) return 'a chain of descriptors is a loop';
      const at = tableAt + index * DESCRIPTOR_WORDS;
      const low = table[at];
      const high = table[at + 1];
      const length = table[at + 2];
      const word = table[at + 3];
      if ((word & DESCRIPTOR_F_INDIRECT) !== 0) {
        // virtio 2.7.5.3.1 and .2: only if negotiated, one table, at the end of the chain; F_WRITE is ignored here.
        if (!this.#indirect) return 'an indirect descriptor, which was not negotiated';
        if (inTable) return 'an indirect descriptor inside an indirect table';
        if ((word & DESCRIPTOR_F_NEXT) !== 0) return 'a descriptor after an indirect one';
        if (length === 0 || (length & (DESCRIPTOR_BYTES - 1)) !== 0)
          return 'an indirect table with a length not a multiple of 16';
        if (length > INDIRECT_MAX * DESCRIPTOR_BYTES) return 'an indirect table with too many entries';
        if (!this.#openTable(low | 0, high | 0, length | 0)) return 'an indirect table outside guest memory';
        table = this.#table;
        tableAt = this.#tableAt;
        entries = length >>> 4;
        inTable = true;
        index = 0;
        hops = -1;
        continue;
      }
      const writable = (word & DESCRIPTOR_F_WRITE) !== 0;
      // virtio 2.7.4.2: everything readable comes first.
      if (sawWritable && !writable) return 'a readable descriptor after a writable one';
      sawWritable = writable;
      const segments = writable ? chain.writable : chain.readable;
      if (!this.#memory.appendWords(segments, low | 0, high | 0, length | 0)) {
        if (segments.overflow) return 'a chain in too many pieces';
        // What begins with it is no header of either kind.
        if (segments.count === 0) return 'a header outside guest memory';
        outside = true;
      }
      chain.descriptors += 1;
      if ((word & DESCRIPTOR_F_NEXT) === 0) break;
      index = word >>> 16;
      if (index >= entries) return 'a next field outside the table';
    }
    if (outside) return OUTSIDE;
    return chain.readable.bytes + chain.writable.bytes > CHAIN_MAX_BYTES ? 'a chain of more than 2^32 bytes' : '';
  }

  /** Points `#table` at an indirect table, or at a copy of it when it cannot be read by words where it lies. */
  #openTable(low: number, high: number, length: number): boolean {
    const slot = this.#memory.windowOf(low, high, length);
    if (slot !== -1 && (this.#memory.windowOffset & 3) === 0 && this.#memory.windows.isThere(slot)) {
      this.#table = this.#memory.windows.views[slot].words;
      this.#tableAt = this.#memory.windowOffset >> 2;
      return true;
    }
    const pieces = this.#tablePieces;
    pieces.clear();
    if (!this.#memory.appendWords(pieces, low, high, length)) return false;
    this.#table = this.#tableCopy.words;
    this.#tableAt = 0;
    return gatherInto(this.#memory, pieces, 0, this.#tableCopy, 0, length) === length;
  }
}
