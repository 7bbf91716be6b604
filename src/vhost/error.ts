/** Requests that are refused; WINDOW in silence, because the front-end is not wrong there. */
type Refusal = 'UNSUPPORTED' | 'MEMORY' | 'RING' | 'WINDOW';
/** What can be wrong with a front-end. */
export type VhostErrorCode = 'CLOSED' | 'MALFORMED' | 'SOCKET' | 'TIMEOUT' | Refusal;

/** A vhost-user connection that cannot go on, or (any `Refusal`) one request of it that is refused. */
export class VhostError extends Error {
  override readonly name = 'VhostError';
  readonly code: VhostErrorCode;

  constructor(code: VhostErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
