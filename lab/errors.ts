/**
 * Something the lab cannot do on this machine, or a guest that failed: what happened, and below it what to do
 * or what the guest's console showed last.
 */
export class LabError extends Error {
  override readonly name: string = 'LabError';
  /** A stable word for programs: 'NO_QEMU', 'NO_KERNEL', 'NO_APT', 'NETWORK', 'BOOT', 'PANIC', 'TIME', 'EXITED', ... */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
