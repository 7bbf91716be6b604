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

/** One line on stderr. A stderr that is full or gone must not end the daemon. */
export function writeLine(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {
    // There is nowhere left to say it.
  }
}
