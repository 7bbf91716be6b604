/** The raw JSON of a run, checked: reports are made of files that anybody may have written. */
import { readFileSync } from 'node:fs';

import { UserError } from '../../src/core/index.ts';
import type { BenchResult } from '../results.ts';

type Check = (value: unknown, where: string) => void;

class Mismatch extends Error {}

function refuse(where: string, wanted: string, value: unknown): never {
  const got = value === undefined ? 'it is missing' : `it is ${JSON.stringify(value).slice(0, 60)}`;
  throw new Mismatch(`${where} should be ${wanted}; ${got}`);
}

const text: Check = (value, where) => {
  if (typeof value !== 'string') refuse(where, 'a text', value);
};

const amount: Check = (value, where) => {
  if (typeof value !== 'number' || value < 0) refuse(where, 'a number of 0 or more', value);
};

const boolean: Check = (value, where) => {
  if (typeof value !== 'boolean') refuse(where, 'true or false', value);
};

const oneOf =
  (...values: readonly unknown[]): Check =>
  (value, where) => {
    if (!values.includes(value)) refuse(where, values.map((each) => JSON.stringify(each)).join(' or '), value);
  };

const optional =
  (check: Check): Check =>
  (value, where) => {
    if (value !== undefined) check(value, where);
  };

const listOf =
  (check: Check): Check =>
  (value, where) => {
    if (!Array.isArray(value)) refuse(where, 'a list', value);
    value.forEach((each, i) => check(each, `${where}[${i}]`));
  };

function entriesOf(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(where, 'an object', value);
  return value as Record<string, unknown>;
}

const mapOf =
  (check: Check): Check =>
  (value, where) => {
    for (const [key, each] of Object.entries(entriesOf(value, where))) check(each, `${where}.${key}`);
  };

/** A field for every one of the type, so that none is forgotten. */
const shape =
  (fields: Readonly<Record<string, Check>>): Check =>
  (value, where) => {
    const entries = entriesOf(value, where);
    for (const [name, check] of Object.entries(fields)) check(entries[name], `${where}.${name}`);
  };

const machine = shape({
  date: text,
  cpuModel: text,
  cores: amount,
  memoryMiB: amount,
  kernel: text,
  fileSystem: text,
  node: text,
  guest: optional(
    shape({ accelerator: oneOf('kvm', 'tcg'), qemu: text, kernel: text, cpus: amount, memoryMiB: amount }),
  ),
});

const contestant = shape({
  id: text,
  label: text,
  kind: oneOf('9p', 'virtiofsd', 'virtiofs'),
  cache: text,
  writeback: boolean,
  daxWindow: optional(text),
  queues: optional(amount),
  version: text,
});

const sample = shape({
  operations: amount,
  seconds: amount,
  daemonCpuSeconds: optional(amount),
  p50Us: optional(amount),
  p99Us: optional(amount),
});

const row = shape({
  suite: oneOf('smallfile', 'fio', 'everyday', 'daemon'),
  name: text,
  operation: text,
  operationBytes: optional(amount),
  samples: mapOf(listOf(sample)),
  counts: mapOf(shape({ messages: optional(amount), operations: amount, guestMemoryBytes: optional(amount) })),
  failures: mapOf(text),
});

const benchResult = shape({
  format: oneOf(1),
  machine,
  command: text,
  rounds: amount,
  contestants: listOf(contestant),
  leftOut: optional(listOf(shape({ label: text, why: text }))),
  rows: listOf(row),
});

/** Of a file that {@link writeReport} or somebody else has made. @throws UserError when it is not a result. */
export function readResult(path: string): BenchResult {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    benchResult(value, 'it');
    return value as BenchResult;
  } catch (cause) {
    if (cause instanceof Mismatch) throw new UserError(`${path}: no result of virtiofs bench: ${cause.message}`);
    if (cause instanceof SyntaxError) throw new UserError(`${path}: no JSON: ${cause.message}`, { cause });
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new UserError(`cannot read a result of virtiofs bench: ${why}`, { cause });
  }
}
