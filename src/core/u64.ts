/** 64-bit numbers are pairs of 32-bit words on the data path: lo + hi * 2^32, exact below 2^53. */
export const TWO_32 = 0x1_0000_0000;
