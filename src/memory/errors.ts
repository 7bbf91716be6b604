/** What was wrong with a region: its size, an address of it, its buffer, or its place beside others. */
export type MemoryErrorCode = 'SIZE' | 'ADDRESS' | 'BUFFER' | 'OVERLAP';

/** A region that cannot be added. The front-end sent it, so it is no bug of ours. */
export class MemoryError extends Error {
  override readonly name = 'MemoryError';
  readonly code: MemoryErrorCode;

  constructor(code: MemoryErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
