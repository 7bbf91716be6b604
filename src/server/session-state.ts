/** Words that the workers of a session share. */
export const SESSION_WORDS = 4;
/** 1 between INIT and DESTROY. */
export const SESSION_INITIALIZED = 0;
/** The INIT flags that were agreed on: `flags` and `flags2`. */
export const SESSION_FLAGS = 1;
export const SESSION_FLAGS2 = 2;
