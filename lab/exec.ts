import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { undoAtExit } from './cleanup.ts';

/** How a program ended and what it printed. */
export interface Finished {
  /** Exit code; 128 + signal number is not used: -1 when a signal ended it or it could not be started. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Standard input; empty by default. */
  readonly input?: string;
  /** Kills the program when it takes longer. */
  readonly timeoutMs?: number;
  /** Lines that the program writes to descriptor 3. */
  readonly onStatus?: (line: string) => void;
}

/** Calls `take` with every whole line of a stream. */
export function eachLine(stream: Readable, take: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) take(line);
  });
  stream.on('end', () => {
    if (rest !== '') take(rest);
  });
}

/** Runs a program to its end; never throws for a bad exit code or a missing program. */
export function exec(command: string, args: readonly string[], options: ExecOptions = {}): Promise<Finished> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env,
      timeout: options.timeoutMs,
      killSignal: 'SIGKILL',
      stdio: [
        options.input === undefined ? 'ignore' : 'pipe',
        'pipe',
        'pipe',
        options.onStatus === undefined ? 'ignore' : 'pipe',
      ],
    });
    const forget = undoAtExit(() => child.kill('SIGKILL'));
    child.stdin?.on('error', () => {}).end(options.input);
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const status = child.stdio[3];
    if (options.onStatus !== undefined && status) eachLine(status as Readable, options.onStatus);
    child.on('error', (error) => {
      forget();
      resolve({ code: -1, stdout, stderr: stderr + error.message });
    });
    child.on('close', (code) => {
      forget();
      resolve({ code: code ?? -1, stdout, stderr });
    });
  });
}
