import { which } from './host.ts';

let setpriv: string | undefined | null = null;

/**
 * A command line whose program gets a signal when this process dies without a chance to clean up (SIGKILL). Without
 * util-linux the command line stays as it is.
 */
export function endingWithUs(command: readonly string[], signal: 'KILL' | 'TERM'): string[] {
  setpriv ??= which('setpriv');
  return setpriv === undefined ? [...command] : [setpriv, '--pdeathsig', signal, ...command];
}
