import { writeSync } from 'node:fs';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type Log = Record<LogLevel, (message: string) => void>;

/**
 * A log on stderr, written at once and by every thread itself: a thread that sleeps in the kernel, or a process that
 * ends, delivers no messages to others.
 */
export function createLog(level: LogLevel): Log {
  const last = LOG_LEVELS.indexOf(level);
  const writer = (at: LogLevel): ((message: string) => void) =>
    LOG_LEVELS.indexOf(at) > last ? () => undefined : (message) => writeLine(`virtiofs: ${at}: ${message}`);
  return { error: writer('error'), warn: writer('warn'), info: writer('info'), debug: writer('debug') };
}

const BURST = 20;
const BURST_MS = 10_000;

/** A log function for what a guest can cause as often as it likes: so many lines at a time, then their number. */
export function limited(write: (message: string) => void): (message: string) => void {
  let since = 0;
  let said = 0;
  return (message) => {
    const now = performance.now();
    if (now - since > BURST_MS) {
      if (said > BURST) write(`${said - BURST} more of this kind were not logged`);
      since = now;
      said = 0;
    }
    said += 1;
    if (said <= BURST) write(message);
  };
}

/** One line on stderr. A stderr that is full or gone must not end the daemon. */
export function writeLine(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {
    // There is nowhere left to say it.
  }
}
