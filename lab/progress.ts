/** One thing that is being fetched or made. */
export interface Task {
  /** @param doneBytes bytes so far, of the total given to start(). */
  update(doneBytes: number): void;
  /** The task is over; prints the last word about it. */
  done(): void;
  /** The task failed: the line is left without a word of success. */
  fail(): void;
}

/** Where the lab says what it is doing. */
export interface Progress {
  note(line: string): void;
  /** @param totalBytes 0 when unknown. */
  start(what: string, totalBytes: number): Task;
}

/** The part of a stream that progress needs. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const BAR_CELLS = 20;
const LINE_EVERY_MS = 5_000;
const REDRAW_EVERY_MS = 100;

/** `12.3` for 12_300_000 bytes. */
export function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

/** How far a task is, in words: `12.3 of 28.5 MB, 43 %`. */
export function howFar(doneBytes: number, totalBytes: number): string {
  if (totalBytes === 0) return doneBytes === 0 ? '' : `${megabytes(doneBytes)} MB`;
  const part = Math.min(1, doneBytes / totalBytes);
  return `${megabytes(part * totalBytes)} of ${megabytes(totalBytes)} MB, ${Math.floor(part * 100)} %`;
}

/** The updating line of a terminal, cut to its width. */
export function terminalLine(what: string, doneBytes: number, totalBytes: number, columns: number): string {
  const part = totalBytes === 0 ? 0 : Math.min(1, doneBytes / totalBytes);
  const full = Math.round(part * BAR_CELLS);
  const bar = totalBytes === 0 ? '' : `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}] `;
  return `${what} ${bar}${howFar(doneBytes, totalBytes)}`.slice(0, Math.max(1, columns - 1));
}

/** Says nothing. */
export const silent: Progress = {
  note() {},
  start: () => ({ update() {}, done() {}, fail() {} }),
};

/**
 * Progress for people: on a terminal one updating line for each task, elsewhere a line when a task begins, one every
 * five seconds, and one when it is over.
 */
export function progressTo(stream: ProgressStream, now: () => number = Date.now): Progress {
  const terminal = stream.isTTY === true;
  const start = (what: string, totalBytes: number): Task => {
    const began = now();
    let shown = began;
    const clear = terminal ? '\r\u001b[K' : '';
    const draw = (doneBytes: number): void => {
      if (terminal) stream.write(clear + terminalLine(what, doneBytes, totalBytes, stream.columns ?? 80));
      else stream.write(`${what}: ${howFar(doneBytes, totalBytes)}\n`);
    };
    if (terminal) draw(0);
    else stream.write(`${what}${totalBytes === 0 ? '' : `: ${megabytes(totalBytes)} MB`}\n`);
    return {
      update(doneBytes) {
        if (now() - shown < (terminal ? REDRAW_EVERY_MS : LINE_EVERY_MS)) return;
        shown = now();
        draw(doneBytes);
      },
      done() {
        const seconds = ((now() - began) / 1000).toFixed(1);
        const size = totalBytes === 0 ? '' : `${megabytes(totalBytes)} MB in `;
        stream.write(`${clear}${what}: ${size}${seconds} s\n`);
      },
      fail() {
        if (terminal) stream.write(clear);
      },
    };
  };
  return { note: (line) => void stream.write(`${line}\n`), start };
}
