/** The lines of `sh` as words, with the quotes of a shell. */
import { UserError } from '../../core/index.ts';
import { bytesOf, textOf } from './names.ts';

export interface Word {
  readonly text: string;
  /** Where it begins in the line, and what is behind it. */
  readonly start: number;
  readonly end: number;
  /** The quote that has not ended; '' where all have. */
  readonly open: string;
}

const NAMED: Readonly<Record<string, number>> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13, e: 27 };
const ESCAPE = /\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|([^]))/y;

/** What a shell does with these is not done here; a name with one is quoted. */
const UNKNOWN = '|&<>()`$';
const BLANK = ' \t\r';

class Reader {
  readonly #line: string;
  readonly #unfinished: boolean;
  #at = 0;
  #quote = '';

  constructor(line: string, unfinished: boolean) {
    this.#line = line;
    this.#unfinished = unfinished;
  }

  /** The commands of a line, each as its words. */
  commands(): Word[][] {
    const commands: Word[][] = [[]];
    for (let next = this.#separator(); next !== 'end'; next = this.#separator()) {
      if (next === 'command') commands.push([]);
      else commands[commands.length - 1].push(this.#word());
    }
    return commands;
  }

  /** What comes next, behind blanks. */
  #separator(): 'end' | 'command' | 'word' {
    while (BLANK.includes(this.#line[this.#at] ?? 'end')) this.#at += 1;
    const next = this.#line[this.#at];
    if (next === '#') while (this.#at < this.#line.length && this.#line[this.#at] !== '\n') this.#at += 1;
    if (this.#at >= this.#line.length) return 'end';
    if (!';\n'.includes(this.#line[this.#at])) return 'word';
    this.#at += 1;
    return 'command';
  }

  #word(): Word {
    const start = this.#at;
    let text = '';
    while (this.#at < this.#line.length) {
      const next = this.#line[this.#at];
      if (`${BLANK};\n`.includes(next)) break;
      text += this.#piece(next);
    }
    return { text, start, end: this.#at, open: this.#quote };
  }

  #piece(next: string): string {
    if (next === '\\') {
      this.#at += 2;
      if (this.#at - 1 < this.#line.length) return this.#line[this.#at - 1];
      this.#at = this.#line.length;
      return this.#open('\\', 'at the end of the line');
    }
    if (next === "'") return this.#single();
    if (next === '"') return this.#double();
    if (this.#line.startsWith("$'", this.#at)) return this.#escaped();
    if (UNKNOWN.includes(next)) throw new UserError(`${next} means nothing here; quote it if it is part of a name`);
    this.#at += 1;
    return next;
  }

  #open(quote: string, where = 'without another'): string {
    if (!this.#unfinished) throw new UserError(`${quote} ${where}: something is missing`);
    this.#quote = quote;
    return '';
  }

  #single(): string {
    const end = this.#line.indexOf("'", this.#at + 1);
    const text = this.#line.slice(this.#at + 1, end < 0 ? undefined : end);
    this.#at = end < 0 ? this.#line.length : end + 1;
    return end < 0 ? text + this.#open("'") : text;
  }

  #double(): string {
    let text = '';
    for (this.#at += 1; this.#at < this.#line.length; this.#at += 1) {
      const next = this.#line[this.#at];
      if (next === '"') {
        this.#at += 1;
        return text;
      }
      const following = this.#line[this.#at + 1];
      if (next === '\\' && following !== undefined && '"\\$`'.includes(following)) {
        text += following;
        this.#at += 1;
      } else {
        text += next;
      }
    }
    return text + this.#open('"');
  }

  /** As quoted() writes what cannot be shown: bytes by their octal numbers. */
  #escaped(): string {
    const bytes: Buffer[] = [];
    for (this.#at += 2; this.#at < this.#line.length; ) {
      const next = this.#line[this.#at];
      if (next === "'") {
        this.#at += 1;
        return textOf(Buffer.concat(bytes));
      }
      ESCAPE.lastIndex = this.#at;
      const match = ESCAPE.exec(this.#line);
      const raw = String.fromCodePoint(this.#line.codePointAt(this.#at) as number);
      bytes.push(match === null ? bytesOf(raw) : escapedBytes(match));
      this.#at += match === null ? raw.length : match[0].length;
    }
    return textOf(Buffer.concat(bytes)) + this.#open("'");
  }
}

function escapedBytes([, octal, hex, unicode, other]: RegExpExecArray): Buffer {
  if (octal !== undefined) return Buffer.of(Number.parseInt(octal, 8));
  if (hex !== undefined) return Buffer.of(Number.parseInt(hex, 16));
  if (unicode !== undefined) return Buffer.from(String.fromCharCode(Number.parseInt(unicode, 16)));
  return other in NAMED ? Buffer.of(NAMED[other]) : Buffer.from(other);
}

/** The commands of some lines. Throws UserError for quotes that do not end. */
export function commandsIn(text: string): string[][] {
  const commands = new Reader(text, false).commands();
  return commands.filter((words) => words.length > 0).map((words) => words.map((word) => word.text));
}

/** The words of the command that is being typed; the last one is where the cursor is, perhaps empty. */
export function wordsBeforeCursor(line: string): Word[] {
  const words = new Reader(line, true).commands().at(-1) as Word[];
  const end = line.length;
  return words.at(-1)?.end === end ? words : [...words, { text: '', start: end, end, open: '' }];
}
