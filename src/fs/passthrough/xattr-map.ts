/**
 * --xattrmap: the names that the guest's extended attributes have on the host. The language is virtiofsd's: rules of
 * five fields, `:type:scope:key:prepend:`, between delimiters of the user's choice; the first that matches counts.
 */
import { EOPNOTSUPP, EPERM, UserError } from '../../core/index.ts';

/** XATTR_NAME_MAX: no longer name matches anything. */
const NAME_MAX = 255;

const TYPES = ['prefix', 'ok', 'bad', 'unsupported'] as const;
type RuleType = (typeof TYPES)[number];

/** Plain values: it crosses threads. */
export interface XattrRule {
  readonly type: RuleType;
  /** Matches names that the guest gives, by `key`. */
  readonly client: boolean;
  /** Matches names that the host lists, by `prepend`. */
  readonly server: boolean;
  readonly key: string;
  readonly prepend: string;
}

/** Reads the rules. Throws UserError that says which rule is wrong, and why. */
export function parseXattrMap(text: string): XattrRule[] {
  const rules: XattrRule[] = [];
  let rest = text.trimStart();
  for (let number = 1; rest !== ''; number += 1) {
    const [delimiter] = rest;
    const what = `rule ${number} of --xattrmap, '${rest.trimEnd().split('\n')[0]}'`;
    const [type, ...others] = rest.slice(delimiter.length).split(delimiter);
    const fields = type === 'map' ? 2 : 3;
    if (type !== 'map' && !isType(type)) {
      throw new UserError(
        `${what}: '${type}' is no type; ${TYPES.join(', ')} and map are. A rule begins with its delimiter, here ` +
          `'${delimiter}'.`,
      );
    }
    // The last piece is what comes after the last delimiter: it belongs to the rules that follow.
    if (others.length <= fields) {
      const shape = [type, ...(type === 'map' ? [] : ['SCOPE']), 'KEY', 'PREPEND'].join(delimiter);
      throw new UserError(`${what}: it is not whole; it must read ${delimiter}${shape}${delimiter}`);
    }
    const given = others.slice(0, fields);
    rest = others.slice(fields).join(delimiter).trimStart();
    for (const field of given) checkField(what, field);
    if (type === 'map') {
      if (rest !== '') throw new UserError(`${what}: a map rule ends the list; '${rest.trimEnd()}' comes after it.`);
      rules.push(...expandMap(given[0], given[1]));
    } else {
      rules.push(makeRule(what, type as RuleType, given));
    }
  }
  checkEnd(rules);
  return rules;
}

/** Whether ACLs have their own names on the host, which takes them for ACLs by nothing else. */
export function acceptsAcls(rules: readonly XattrRule[]): boolean {
  const map = new XattrMap(rules);
  const same = (text: string): boolean => {
    const name = new TextEncoder().encode(text);
    const mapped = map.mapClientName(name, 0, name.length, new Uint8Array(MAPPED_NAME_BYTES), 0);
    return mapped === 0 && map.mapServerName(name, 0, name.length) === 0;
  };
  return same('system.posix_acl_access') && same('system.posix_acl_default');
}

function isType(text: string): boolean {
  return (TYPES as readonly string[]).includes(text);
}

function checkField(what: string, field: string): void {
  if (field.includes('\0')) throw new UserError(`${what}: a field holds a NUL.`);
  if (Buffer.byteLength(field) > NAME_MAX) {
    throw new UserError(`${what}: '${field}' is longer than the ${NAME_MAX} bytes that a name may have.`);
  }
}

function makeRule(what: string, type: RuleType, [scope, key, prepend]: readonly string[]): XattrRule {
  if (!['client', 'server', 'all'].includes(scope)) {
    throw new UserError(`${what}: '${scope}' is no scope; client, server and all are.`);
  }
  return { type, client: scope !== 'server', server: scope !== 'client', key, prepend };
}

/** What a map rule stands for. */
function expandMap(key: string, prepend: string): XattrRule[] {
  const both = { client: true, server: true } as const;
  const rules: XattrRule[] = [{ type: 'prefix', ...both, key, prepend }];
  // The host's own attributes of the mapped names are hidden, and nobody reaches the mapped ones by their true names.
  if (key !== '') rules.push({ type: 'bad', ...both, key: prepend, prepend: key });
  rules.push({ type: key === '' ? 'bad' : 'ok', ...both, key: '', prepend: '' });
  return rules;
}

/** Every name must have a rule, which takes one that matches all of them, in either direction. */
function checkEnd(rules: readonly XattrRule[]): void {
  if (rules.length === 0) throw new UserError('--xattrmap has no rules.');
  if (!rules.some(({ client, key }) => client && key === '')) {
    throw new UserError(
      '--xattrmap does not say what becomes of all other names that the guest uses: end it with a rule of scope ' +
        'client or all with an empty key, such as :ok:all:::',
    );
  }
  if (!rules.some(({ server, prepend }) => server && prepend === '')) {
    throw new UserError(
      '--xattrmap does not say what becomes of all other names that the host lists: end it with a rule of scope ' +
        'server or all with an empty prepend, such as :ok:all:::',
    );
  }
}

interface Compiled {
  readonly type: RuleType;
  readonly match: Uint8Array;
  readonly prepend: Uint8Array;
}

/** Room for a mapped name with its NUL. */
export const MAPPED_NAME_BYTES = 2 * NAME_MAX + 1;

export class XattrMap {
  readonly #client: readonly Compiled[];
  readonly #server: readonly Compiled[];

  constructor(rules: readonly XattrRule[]) {
    const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
    const compile = (match: 'key' | 'prepend') => (rule: XattrRule) => {
      return { type: rule.type, match: encode(rule[match]), prepend: encode(rule.prepend) };
    };
    this.#client = rules.filter(({ client }) => client).map(compile('key'));
    this.#server = rules.filter(({ server }) => server).map(compile('prepend'));
  }

  /**
   * The host's name for a name of the guest's, `length` bytes at `at` of `from`. 0: the same name. Positive: its
   * length; it stands at `to` of `into` with a NUL. Negative: EPERM ('bad') or EOPNOTSUPP ('unsupported').
   */
  mapClientName(from: Uint8Array, at: number, length: number, into: Uint8Array, to: number): number {
    const rule = find(this.#client, from, at, length);
    if (rule === undefined || rule.type === 'bad') return -EPERM;
    if (rule.type === 'unsupported') return -EOPNOTSUPP;
    const { prepend } = rule;
    if (rule.type === 'ok' || prepend.length === 0) return 0;
    for (let i = 0; i < prepend.length; i += 1) into[to + i] = prepend[i];
    const name = to + prepend.length;
    for (let i = 0; i < length; i += 1) into[name + i] = from[at + i];
    into[name + length] = 0;
    return prepend.length + length;
  }

  /** How many bytes to strip of a name that the host lists for the guest to know it; -1: it is not for the guest. */
  mapServerName(from: Uint8Array, at: number, length: number): number {
    const rule = find(this.#server, from, at, length);
    if (rule === undefined || rule.type === 'bad' || rule.type === 'unsupported') return -1;
    if (rule.type === 'ok') return 0;
    // An empty name is none.
    return rule.prepend.length < length ? rule.prepend.length : -1;
  }
}

function find(rules: readonly Compiled[], name: Uint8Array, at: number, length: number): Compiled | undefined {
  for (let i = 0; i < rules.length; i += 1) {
    if (startsWith(name, at, length, rules[i].match)) return rules[i];
  }
  return undefined;
}

function startsWith(name: Uint8Array, at: number, length: number, prefix: Uint8Array): boolean {
  if (prefix.length > length) return false;
  for (let i = 0; i < prefix.length; i += 1) {
    if (name[at + i] !== prefix[i]) return false;
  }
  return true;
}
