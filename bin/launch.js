/**
 * Runs the command line on a Node.js that is new enough: this one, or the one that was installed with the package.
 * Plain JavaScript that Node.js 18 can read.
 */
import { existsSync, realpathSync, statSync } from 'node:fs';
import module from 'node:module';
import { constants, homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The first release whose node:ffi calls without a wrapper and without a flag. */
const NEEDED = [26, 10];
const FLAGS = ['--disable-warning=ExperimentalWarning'];
const SIGNALS = /** @type {const} */ (['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']);
/** What shells return for a command that cannot be run. */
const CANNOT_RUN = 126;

const require = module.createRequire(import.meta.url);

/**
 * The command line of this package: its sources in a checkout, what was built from them where it is installed.
 * @returns {string}
 */
function mainUrl() {
  const source = new URL('../src/cli/main.ts', import.meta.url);
  return existsSync(source) ? source.href : new URL('../dist/src/cli/main.js', import.meta.url).href;
}

/** @param {string} version */
function isNewEnough(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1]);
}

/**
 * The Node.js of an optional dependency, found as an import would be: beside this package or above it.
 * @returns {{ node: string } | { tried: string }}
 */
function findNode() {
  const name = `node-linux-${process.arch}`;
  try {
    const node = join(require.resolve(`${name}/package.json`), '../bin/node');
    if (!existsSync(node)) return { tried: `the package ${name}, which holds no bin/node` };
    // Else this process would start itself for ever.
    if (realpathSync(node) === realpathSync(process.execPath)) return { tried: `the package ${name}, which this is` };
    return { node };
  } catch {
    return { tried: `the package ${name}, which is not installed` };
  }
}

/**
 * A folder for compiled code, which is trusted when it is loaded: only below a home of the user's own.
 * @returns {string | undefined}
 */
function compileCache() {
  try {
    const home = homedir();
    if (statSync(home).uid !== process.geteuid?.()) return undefined;
    return join(process.env.XDG_CACHE_HOME || join(home, '.cache'), 'virtiofs/compile');
  } catch {
    return undefined;
  }
}

/**
 * The descriptors that the arguments speak of: `--fd 3` or `--fd=3`, which is how VM managers pass a socket.
 * @param {readonly string[]} args
 */
export function passedDescriptors(args) {
  const found = args.flatMap((arg, i) => {
    const text = arg === '--fd' ? args[i + 1] : /^--fd=(.*)$/.exec(arg)?.[1];
    return text !== undefined && /^[0-9]{1,4}$/.test(text) ? [Number(text)] : [];
  });
  return found.filter((fd) => fd > 2 && existsSync(`/proc/self/fd/${fd}`));
}

/**
 * Becomes `node ARGS`. Where Node.js cannot replace itself, or would close the descriptors it was given (it marks all
 * but the first three close-on-exec as it starts), a child does the work and this process passes everything on.
 * @param {string} node
 * @param {readonly string[]} args
 * @param {readonly number[]} descriptors
 * @param {NodeJS.ProcessEnv} env
 */
async function become(node, args, descriptors, env) {
  if (typeof process.execve === 'function' && descriptors.length === 0) {
    // Announces itself as experimental on the next tick, which does not come.
    process.execve(node, [node, ...args], env);
  }
  // Only here: these modules would cost every start 4 ms.
  const { spawn } = await import('node:child_process');
  const { isatty } = await import('node:tty');
  /** @type {(number | 'ignore')[]} */
  const stdio = [0, 1, 2];
  for (const fd of descriptors) {
    while (stdio.length < fd) stdio.push('ignore');
    stdio[fd] = fd;
  }
  const child = spawn(node, args, { stdio, env });
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to the child by itself.
      if (signal !== 'SIGINT' || !isatty(0)) child.kill(signal);
    });
  }
  child.on('error', (error) => {
    process.stderr.write(`virtiofs: cannot run ${node}: ${error.message}\n`);
    process.exitCode = CANNOT_RUN;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
    // A signal that does not end a process by itself cannot have ended the child; should it be blocked here:
    process.exitCode = 128 + constants.signals[signal];
  });
}

/**
 * @param {readonly string[]} args
 * @returns {Promise<void>}
 */
export async function launch(args) {
  const cache = process.env.NODE_COMPILE_CACHE === undefined ? compileCache() : undefined;
  if (isNewEnough(process.versions.node)) {
    if (cache !== undefined) module.enableCompileCache?.(cache);
    process.argv.splice(1, process.argv.length, process.argv[1], ...args);
    await import(mainUrl());
    return;
  }
  const found = findNode();
  if ('node' in found) {
    const env = cache === undefined ? process.env : { ...process.env, NODE_COMPILE_CACHE: cache };
    const script = fileURLToPath(new URL('virtiofs.js', import.meta.url));
    await become(found.node, [...FLAGS, script, ...args], passedDescriptors(args), env);
    return;
  }
  process.stderr.write(
    `virtiofs: needs Node.js ${NEEDED.join('.')} or newer.\n` +
      `  This is Node.js ${process.versions.node} (${process.execPath}).\n` +
      `  Looked for ${found.tried}.\n` +
      '  Install virtiofs again without --omit=optional or --no-optional, or put a newer Node.js on PATH.\n',
  );
  process.exitCode = CANNOT_RUN;
}
