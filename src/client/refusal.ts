/** What the daemon, or the client on its behalf, answers to a request: an errno. Volume makes a ShareError of it. */
export class Refusal extends Error {
  /** Positive. */
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

/**
 * The connection is over, and all that is open with it. EPROTO: the daemon answered what makes no sense; ETIMEDOUT: it
 * did not answer in time; ECONNRESET: it went; EBADF: it was closed on this side.
 */
export class ConnectionError extends Error {
  override readonly name = 'Error';
  readonly code: 'EPROTO' | 'ETIMEDOUT' | 'ECONNRESET' | 'EBADF';

  constructor(code: ConnectionError['code'], message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}
