/** What can be wrong with a front-end. */
export type VhostErrorCode = 'CLOSED' | 'MALFORMED' | 'UNSUPPORTED' | 'MEMORY' | 'RING' | 'SOCKET';

/** A vhost-user connection that cannot go on, or (MEMORY, RING, UNSUPPORTED) one request of it that is refused. */
export class VhostError extends Error {
  override readonly name = 'VhostError';
  readonly code: VhostErrorCode;

  constructor(code: VhostErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
