/**
 * Identities that are all numbers and must never stand for one another.
 * A brand costs nothing at run time: it exists for `tsc` alone.
 */

/** An open descriptor of this process. */
export type Fd = number & { readonly __brand: 'Fd' };
