import { assert } from '../core/index.ts';

type Bits = Readonly<Record<string, number>>;

/** Named bits of one 32-bit word: `OPEN.KEEP_CACHE`, with the tools that need all of them. */
export type Flags<B extends Bits> = Readonly<B> & {
  /** `'KEEP_CACHE|CACHE_DIR'`; unknown bits in hexadecimal at the end; `'0'` for none. Cold. */
  readonly format: (value: number) => string;
  /** All named bits together, unsigned. */
  readonly mask: number;
};

/** Declares the bits of a flags word, each once. Throws AssertionError on what is not one bit, or is there twice. */
export function flags<const B extends Bits>(bits: B): Flags<B> {
  let mask = 0;
  for (const [name, value] of Object.entries(bits)) {
    const word = value >>> 0;
    assert(word === value && word !== 0 && (word & (word - 1)) === 0, `${name}: ${value} is not one bit of 32`);
    assert((mask & word) === 0, `${name}: bit ${value} has a name already`);
    mask |= word;
  }
  mask >>>= 0;
  const format = (value: number): string => {
    const names = Object.keys(bits).filter((name) => (value & bits[name]) !== 0);
    const unknown = (value & ~mask) >>> 0;
    if (unknown !== 0) names.push(`0x${unknown.toString(16)}`);
    return names.join('|') || '0';
  };
  return { ...bits, format, mask };
}

/** Bit `index` (0 to 31) as an unsigned number, so that bit 31 is positive. */
export function bit(index: number): number {
  return (1 << index) >>> 0;
}
