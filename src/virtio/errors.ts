/** Which rule of a ring's set-up was broken. */
export type QueueErrorCode = 'SIZE' | 'INDEX' | 'ALIGNMENT' | 'OUTSIDE';

/** Rings that cannot be used as they were described. The front-end described them, so it is no bug of ours. */
export class QueueError extends Error {
  override readonly name = 'QueueError';
  readonly code: QueueErrorCode;

  constructor(code: QueueErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
