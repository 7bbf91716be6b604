/** 64-bit numbers as pairs of 32-bit words: no BigInt on the data path. */

export const TWO_32 = 0x1_0000_0000;

/** lo + hi * 2^32; exact below 2^53. */
export function join32(lo: number, hi: number): number {
  return (lo >>> 0) + (hi >>> 0) * TWO_32;
}

/** The low word of a number below 2^53. */
export function low32(value: number): number {
  return value >>> 0;
}

/** The high word of a number below 2^53. */
export function high32(value: number): number {
  return Math.floor(value / TWO_32) >>> 0;
}
