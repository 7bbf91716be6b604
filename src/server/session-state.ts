/** Words that the workers of a session share. */
export const SESSION_WORDS = 4;
/** 1 between INIT and DESTROY. */
export const SESSION_INITIALIZED = 0;
