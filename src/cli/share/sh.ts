/** `virtiofs sh`: the other commands, at a prompt or from a script. */
import { posix } from 'node:path';
import { createInterface, type Interface } from 'node:readline/promises';

import { Command, CommanderError } from 'commander';

import { UserError } from '../../core/index.ts';
import { kindOf } from './format.ts';
import { escaped, harmless, pathOf, quoted, shown, textOf } from './names.ts';
import { type Context, entriesOf, Run, type ShareCommand, ShareGone } from './run.ts';
import { commandsIn, wordsBeforeCursor } from './words.ts';

/** As shells have them. */
const EXIT_USAGE = 2;
const EXIT_UNKNOWN = 127;
const EXIT_INTERRUPTED = 130;

const OWN = ['cd', 'pwd', 'help', 'exit'];

const HELP = `  cd [DIRECTORY]   go to a directory of the share; without one, to its root
  pwd              say where this is
  help             show this
  exit [CODE]      leave, as Ctrl-D does
COMMAND --help shows the options of one. Names are quoted as in a shell: 'a b', "a b", a\\ b, $'a\\nb'.
`;

class Shell {
  readonly #context: Context;
  readonly #commands: readonly ShareCommand[];
  #cwd: string;
  /** The exit code of the last command. */
  code = 0;
  ended = false;
  #running: AbortController | undefined;

  constructor(context: Context, commands: readonly ShareCommand[]) {
    this.#context = context;
    this.#commands = commands;
    this.#cwd = context.cwd;
  }

  get prompt(): string {
    return `virtiofs:${quoted(this.#cwd)}> `;
  }

  /** Ctrl-C. Returns whether a command was running. */
  interrupt(): boolean {
    this.#running?.abort();
    return this.#running !== undefined;
  }

  /** Runs the commands of some lines, one after the other. What fails sets the code, and the others go on. */
  async script(text: string): Promise<void> {
    let commands: string[][];
    try {
      commands = commandsIn(text);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#say(error.message);
      this.code = EXIT_USAGE;
      return;
    }
    for (const [name, ...words] of commands) {
      if (this.ended) return;
      this.code = await this.#command(name, words);
    }
  }

  #say(message: string): void {
    this.#context.stderr.write(`virtiofs sh: ${message}\n`);
  }

  async #command(name: string, words: readonly string[]): Promise<number> {
    const running = new AbortController();
    this.#running = running;
    const signal = AbortSignal.any([this.#context.signal, running.signal]);
    const context: Context = { ...this.#context, cwd: this.#cwd, signal };
    try {
      return OWN.includes(name) ? await this.#own(context, name, words) : await this.#shared(context, name, words);
    } catch (error) {
      this.#context.signal.throwIfAborted();
      if (signal.aborted) return EXIT_INTERRUPTED;
      if (error instanceof ShareGone || !(error instanceof UserError)) throw error;
      this.#say(error.message);
      return 1;
    } finally {
      this.#running = undefined;
    }
  }

  async #own(context: Context, name: string, words: readonly string[]): Promise<number> {
    const run = new Run(name, context);
    if (name === 'cd') await run.each([words[0] ?? '/'], (path) => this.#go(run, path));
    else if (name === 'pwd') await run.write(`${run.label(this.#cwd)}\n`);
    else if (name === 'help') await run.write(this.#help());
    else return this.#exit(words);
    return run.exitCode;
  }

  async #go(run: Run, path: string): Promise<void> {
    const real = await run.share.realpath(pathOf(path), { encoding: 'buffer' });
    const stats = await run.share.stat(real, { bigint: true });
    if (kindOf(stats) !== 'directory') throw new UserError('is not a directory (ENOTDIR)');
    this.#cwd = posix.normalize(textOf(real));
  }

  #exit(words: readonly string[]): number {
    const [code = String(this.code)] = words;
    if (!/^\d{1,3}$/.test(code) || Number(code) > 255) {
      throw new UserError(`exit: ${shown(code)} is no exit code from 0 to 255`);
    }
    this.ended = true;
    return Number(code);
  }

  #help(): string {
    const lines = this.#commands.map((command) => {
      const { name } = command;
      return `  ${name.padEnd(16)} ${command.configure(new Command(name)).description()}\n`;
    });
    return lines.join('') + HELP;
  }

  async #shared(context: Context, name: string, words: readonly string[]): Promise<number> {
    const found = this.#commands.find((command) => command.name === name);
    if (found === undefined) {
      this.#say(`${shown(name)}: there is no such command; help lists them`);
      return EXIT_UNKNOWN;
    }
    let code = 0;
    const parser = found
      .configure(new Command(name))
      .exitOverride()
      .configureOutput({
        writeOut: (text) => void context.stdout.write(text),
        writeErr: (text) => void context.stderr.write(`virtiofs ${name}: ${harmless(text.replace(/^error: /, ''))}`),
      })
      .action(async (...given: unknown[]) => {
        code = await found.run(context, given.slice(0, -2), given.at(-2) as Record<string, unknown>);
      });
    try {
      await parser.parseAsync([...words], { from: 'user' });
    } catch (error) {
      if (!(error instanceof CommanderError)) throw error;
      code = error.exitCode;
    }
    return code;
  }

  /** Whole words that can stand where the cursor is, and what is there now. */
  async complete(line: string): Promise<[string[], string]> {
    const words = wordsBeforeCursor(line);
    const last = words[words.length - 1];
    const typed = line.slice(last.start);
    const names = words.length === 1 ? [...this.#commands.map(({ name }) => name), ...OWN] : undefined;
    const found =
      names?.filter((name) => name.startsWith(last.text)) ??
      (await this.#paths(words[0].text === 'put' && words.length === 2, last.text));
    // What stands after a \ is known only when it is typed.
    if (last.open === '\\') return [[], typed];
    // Readline only adds to what was typed: a quote that is open is ended first.
    const texts = found.map((each) => typed + last.open + escaped(each.slice(last.text.length)));
    // The next word can begin.
    if (texts.length === 1 && !texts[0].endsWith('/')) texts[0] += ' ';
    return [texts, typed];
  }

  /** Paths that begin so. Those that cannot be had are no help, and no error. */
  async #paths(onHost: boolean, typed: string): Promise<string[]> {
    const cut = typed.lastIndexOf('/') + 1;
    const [above, begun] = [typed.slice(0, cut), typed.slice(cut)];
    const files = onHost ? this.#context.host : this.#context.share;
    const base = onHost ? process.cwd() : this.#cwd;
    try {
      const entries = await entriesOf(files, posix.resolve(base, above));
      return entries
        .filter(({ name }) => name.startsWith(begun) && (begun !== '' || !name.startsWith('.')))
        .map(({ name, type }) => above + name + (type.isDirectory() ? '/' : ''));
    } catch {
      return [];
    }
  }
}

async function interact(shell: Shell, context: Context): Promise<void> {
  const { stdin, stdout, signal } = context;
  const terminal = stdin.isTTY === true && stdout.isTTY === true;
  const lines: Interface = createInterface({
    input: stdin,
    output: terminal ? stdout : undefined,
    terminal,
    completer: (line: string) => shell.complete(line),
    signal,
  });
  lines.setPrompt(shell.prompt);
  lines.on('SIGINT', () => {
    if (shell.interrupt()) return;
    // A line that was begun is given up.
    stdout.write('^C\n');
    lines.write(null, { ctrl: true, name: 'e' });
    lines.write(null, { ctrl: true, name: 'u' });
  });
  try {
    if (terminal) lines.prompt();
    for await (const line of lines) {
      await shell.script(line);
      if (shell.ended) break;
      lines.setPrompt(shell.prompt);
      // What was typed meanwhile stays.
      if (terminal) lines.prompt(true);
    }
    // Ctrl-D leaves the prompt where it is.
    if (terminal && !shell.ended) stdout.write('\n');
  } finally {
    lines.close();
  }
}

interface ShOptions {
  readonly command?: string;
}

/** The command, over those that it offers. */
export function shCommand(commands: readonly ShareCommand[]): ShareCommand {
  return {
    name: 'sh',
    configure: (command) =>
      command
        .description('type commands at a prompt, or read them from standard input')
        .option('-c, --command <commands>', 'run these, with ; between them, and leave'),
    async run(context, _operands, options) {
      const shell = new Shell(context, commands);
      const { command } = options as ShOptions;
      if (command === undefined) await interact(shell, context);
      else await shell.script(command);
      context.signal.throwIfAborted();
      return shell.code;
    },
  };
}
