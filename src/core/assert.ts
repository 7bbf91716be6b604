/** A broken promise of our own code: a bug, never something that a guest, a VMM or a user can cause. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Holds an invariant of our own. What a peer can break is an errno or a typed error instead. */
export function assert(condition: boolean, message = 'an invariant does not hold'): asserts condition {
  if (condition) return;
  throw new AssertionError(message);
}
