/**
 * --translate-uid and --translate-gid: the numbers that users and groups have in the guest and on the host, where they
 * differ. The two directions are independent of one another; what no rule names is the same on both sides.
 */
import { UserError } from '../../core/index.ts';

/** 2^32 - 1 stands for 'no id' everywhere. */
const IDS = 0xffff_ffff;

/** `count` ids from `from` on. Plain numbers: it crosses threads. */
export interface IdRange {
  readonly from: number;
  readonly count: number;
  /** What the first of them becomes; undefined: nobody may have it. */
  readonly to: number | undefined;
  /** All of them become `to`. */
  readonly squash: boolean;
}

export interface IdRules {
  readonly toHost: readonly IdRange[];
  readonly toGuest: readonly IdRange[];
}

interface Form {
  readonly shape: string;
  readonly guest: boolean;
  readonly host: boolean;
  readonly squash: boolean;
}

const FORMS: Readonly<Record<string, Form>> = {
  guest: { shape: 'guest:GUEST:HOST:COUNT', guest: true, host: false, squash: false },
  host: { shape: 'host:HOST:GUEST:COUNT', guest: false, host: true, squash: false },
  'squash-guest': { shape: 'squash-guest:GUEST:HOST:COUNT', guest: true, host: false, squash: true },
  'squash-host': { shape: 'squash-host:HOST:GUEST:COUNT', guest: false, host: true, squash: true },
  'forbid-guest': { shape: 'forbid-guest:GUEST:COUNT', guest: true, host: false, squash: false },
  map: { shape: 'map:GUEST:HOST:COUNT', guest: true, host: true, squash: false },
};

/** The rules of an option that may be given several times. Throws UserError that names the rule and what is wrong. */
export function parseIdRules(option: string, texts: readonly string[]): IdRules {
  const toHost: IdRange[] = [];
  const toGuest: IdRange[] = [];
  for (const text of texts) {
    const refuse = (why: string): UserError => new UserError(`${option} ${text}: ${why}`);
    const [kind, ...fields] = text.split(':');
    const form = FORMS[kind.toLowerCase()];
    if (form === undefined) throw refuse(`'${kind}' is no kind of rule; ${Object.keys(FORMS).join(', ')} are.`);
    const wanted = form.shape.split(':').length - 1;
    if (fields.length !== wanted) throw refuse(`it has ${fields.length} numbers, not ${wanted}: ${form.shape}.`);
    const numbers = fields.map((field) => parseNumber(field, refuse));
    const count = numbers[wanted - 1];
    if (count === 0) throw refuse('the count is 0.');
    const from = numbers[0];
    const to = wanted === 3 ? numbers[1] : undefined;
    const last = Math.max(from + count, to === undefined ? 0 : to + (form.squash ? 1 : count));
    if (last > IDS) throw refuse(`it goes beyond the last id, ${IDS - 1}.`);
    const range = { from, count, to, squash: form.squash };
    if (form.guest) addRange(toHost, range, 'guest', refuse);
    // A map in both directions: what comes back is where it came from.
    const back = form.guest && to !== undefined ? { from: to, count, to: from, squash: false } : range;
    if (form.host) addRange(toGuest, back, 'host', refuse);
  }
  return { toHost, toGuest };
}

function parseNumber(field: string, refuse: (why: string) => UserError): number {
  const number = /^\d{1,10}$/.test(field) ? Number(field) : Number.NaN;
  if (!(number <= IDS)) throw refuse(`'${field}' is no number from 0 to ${IDS}.`);
  return number;
}

function addRange(to: IdRange[], range: IdRange, side: string, refuse: (why: string) => UserError): void {
  const before = to.find((each) => range.from < each.from + each.count && each.from < range.from + range.count);
  if (before !== undefined) {
    const ids = `${before.from} to ${before.from + before.count - 1}`;
    throw refuse(`another rule has the ${side} ids ${ids} already; ranges may not overlap.`);
  }
  to.push(range);
}

/** Translates. Ids are signed 32-bit words: larger numbers would be put on the heap. */
export class IdMap {
  /** Nothing is translated or forbidden in either direction. */
  readonly identity: boolean;
  readonly #toHost: Float64Array;
  readonly #toGuest: Float64Array;
  readonly #forbidden: Float64Array;

  constructor(rules: IdRules = { toHost: [], toGuest: [] }) {
    this.#forbidden = table(rules.toHost.filter(({ to }) => to === undefined));
    this.#toHost = table(rules.toHost.filter(({ to }) => to !== undefined));
    this.#toGuest = table(rules.toGuest);
    this.identity = rules.toHost.length === 0 && rules.toGuest.length === 0;
  }

  /** Whether nobody in the guest may give this id to a file. */
  forbids(guestId: number): boolean {
    return !this.identity && indexOf(this.#forbidden, guestId) >= 0;
  }

  toHost(guestId: number): number {
    return this.identity ? guestId : translated(this.#toHost, guestId);
  }

  toGuest(hostId: number): number {
    return this.identity ? hostId : translated(this.#toGuest, hostId);
  }
}

// A row of a table: first id, the one after the last, what the first becomes, 0 or 1 for squash.
const ROW = 4;

function table(ranges: readonly IdRange[]): Float64Array {
  return Float64Array.from(
    ranges.flatMap(({ from, count, to = 0, squash }) => [from, from + count, to, squash ? 1 : 0]),
  );
}

function indexOf(rows: Float64Array, id: number): number {
  const number = id >>> 0;
  for (let at = 0; at < rows.length; at += ROW) {
    if (number >= rows[at] && number < rows[at + 1]) return at;
  }
  return -1;
}

function translated(rows: Float64Array, id: number): number {
  const at = indexOf(rows, id);
  if (at < 0) return id;
  return rows[at + 3] === 1 ? rows[at + 2] | 0 : (rows[at + 2] + ((id >>> 0) - rows[at])) | 0;
}
