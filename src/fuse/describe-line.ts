/** A description as one line of text, such as `LOOKUP node 1 "etc" -> node 42 size 4096 mode 040755`. */
import { type Description, REPLY_GONE } from './describe.ts';
import type { Fields, Value } from './describe-fields.ts';

/** Told in other words, or of no interest to who reads along. */
const LEFT_OUT = new Set([
  'lockOwner',
  'owner',
  'bytes',
  'entries',
  'names',
  'count',
  'forgets',
  'ranges',
  'backingId',
]);

/** They say again how the file was opened. */
const WITH_FLAGS_OF_OPEN = new Set(['READ', 'WRITE', 'READDIR', 'READDIRPLUS', 'RELEASE', 'RELEASEDIR']);

/** The line, without a newline and without a time. */
export function describeLine(description: Description): string {
  const { opcode, nodeid, names, fields, payloadBytes, extensions, reply, problems } = description;
  const parts = [opcode];
  if (nodeid !== 0) parts.push(`node ${nodeid}`);
  for (const name of names) parts.push(`"${name}"`);
  parts.push(...words(WITH_FLAGS_OF_OPEN.has(opcode) ? { ...fields, flags: 0 } : fields), ...listWords(fields));
  // The size of what a WRITE or a SETXATTR brings is among its fields.
  if (payloadBytes > 0 && fields.size === undefined && fields.count === undefined) parts.push(`+${payloadBytes} bytes`);
  if (extensions !== undefined) parts.push(...words(extensions));
  if (reply !== undefined && reply.length > 0) {
    const isGone = problems.includes(REPLY_GONE);
    parts.push('->', ...(isGone ? [] : replyWords(reply.error, reply.fields)));
  }
  for (const problem of problems) parts.push(`[${problem}]`);
  return parts.join(' ');
}

function replyWords(error: string, fields: Fields): string[] {
  if (error !== '') return [error];
  const { bytes, count } = fields;
  const parts = [...words(fields), ...listWords(fields)];
  if (typeof count === 'number') parts.unshift(`${count} ${fields.entries === undefined ? 'names' : 'entries'}`);
  if (typeof bytes === 'number') parts.push(`${bytes} bytes`);
  return parts.length === 0 ? ['ok'] : parts;
}

const isFields = (value: Value | undefined): value is Fields =>
  typeof value === 'object' && !Array.isArray(value) && value !== undefined;

/** Fields that say something: those that are 0 do not. */
function words(fields: Fields): string[] {
  const { attr, stat, entry, open } = fields;
  const parts: string[] = [];
  // fuse_entry_out, and what has one.
  if (isFields(entry)) return [...words(entry), ...(isFields(open) ? words(open) : [])];
  if (isFields(attr) && fields.nodeid !== undefined) {
    return fields.nodeid === 0 ? ['no such name'] : [`node ${text(fields.nodeid)}`, ...attributeWords(attr)];
  }
  if (isFields(attr)) return attributeWords(attr);
  if (isFields(stat)) return attributeWords(stat);
  for (const [name, value] of Object.entries(fields)) {
    if (LEFT_OUT.has(name) || value === 0 || value === '0' || value === '0x0') continue;
    if (isFields(value)) parts.push(...words(value));
    else if (name === 'target') parts.push(`target "${text(value)}"`);
    else parts.push(`${name} ${text(value)}`);
  }
  return parts;
}

function attributeWords({ size, mode, flags }: Fields): string[] {
  const parts = [`size ${text(size)}`, `mode ${text(mode)}`];
  return flags === undefined || flags === '0' ? parts : [...parts, text(flags)];
}

function listWords(fields: Fields): string[] {
  const parts: string[] = [];
  const { entries, names, forgets, ranges, count } = fields;
  const list = entries ?? names ?? forgets ?? ranges;
  if (!Array.isArray(list)) return parts;
  for (const each of list as readonly Value[]) {
    if (!isFields(each)) parts.push(`"${text(each)}"`);
    else if (each.name !== undefined) parts.push(`"${text(each.name)}"`);
    else parts.push(...words(each));
  }
  if (typeof count === 'number' && count > list.length) parts.push('...');
  return parts;
}

function text(value: Value | undefined): string {
  if (Array.isArray(value)) return (value as readonly Value[]).map(text).join(',');
  return isFields(value) ? Object.values(value).map(text).join('=') : `${value as string | number}`;
}
