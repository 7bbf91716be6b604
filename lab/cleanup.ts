import { rmSync } from 'node:fs';

/*
 * What must not outlive this process: QEMUs, daemons, sockets, temporary folders. Each registers how to undo itself;
 * a normal end undoes it and unregisters, and process exit, SIGINT, SIGTERM and SIGHUP undo what is left.
 */

type Undo = () => void;

const live = new Set<Undo>();
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
let installed = false;

function undoAll(): void {
  // Latest first: a QEMU before the folder that holds its sockets.
  for (const undo of [...live].toReversed()) {
    live.delete(undo);
    try {
      undo();
    } catch {
      // Nothing can be done about it here, and the others still have to be undone.
    }
  }
}

function onSignal(signal: NodeJS.Signals): void {
  undoAll();
  uninstall();
  // Without another listener the process shall die of the signal, so that its parent sees what ended it.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
}

function install(): void {
  if (installed) return;
  installed = true;
  process.on('exit', undoAll);
  for (const signal of SIGNALS) process.on(signal, onSignal);
}

function uninstall(): void {
  installed = false;
  process.off('exit', undoAll);
  for (const signal of SIGNALS) process.off(signal, onSignal);
}

/**
 * Runs `undo` (synchronous) when the process ends before the returned function was called.
 *
 * @returns forgets `undo` without running it.
 */
export function undoAtExit(undo: Undo): () => void {
  install();
  live.add(undo);
  return () => {
    live.delete(undo);
    // Signal listeners would keep the default action of Ctrl-C away from a program that has nothing to clean.
    if (live.size === 0 && installed) uninstall();
  };
}

/** Removes a folder tree at exit at the latest. @returns removes it now. */
export function removeAtExit(folder: string): () => void {
  const remove = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 2 });
  const forget = undoAtExit(remove);
  return () => {
    forget();
    remove();
  };
}
