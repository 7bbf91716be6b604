/**
 * An error for the person who runs the command: what happened, with which value, and what to do.
 * The command prints its message without a stack and ends with `exitCode`.
 */
export class UserError extends Error {
  override readonly name = 'UserError';
  readonly exitCode: number;

  constructor(message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
  }
}
