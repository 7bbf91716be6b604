/** What tidy needs to know of a TypeScript file. */
import { parseSync, Visitor } from 'oxc-parser';

export interface LongFunction {
  readonly line: number;
  readonly lines: number;
}

export interface Source {
  /** What it imports or loads, with the line: static and dynamic imports, re-exports, files named by `new URL(...)`. */
  readonly imports: readonly { readonly specifier: string; readonly line: number }[];
  /** All functions but the bodies of describe() and suite(), which only hold tests. */
  readonly functions: readonly LongFunction[];
}

const LITERAL = /^['"`]([^'"`$]*)['"`]$/;

export function readSource(path: string, text: string): Source {
  const { module, program, errors } = parseSync(path, text);
  const lines = lineStarts(text);
  const lineOf = (offset: number): number => lines.findLastIndex((start) => start <= offset) + 1;
  if (errors.length > 0) throw new Error(`${path}: ${errors[0].message}`);

  const found = module.staticImports.map(({ moduleRequest }) => ({ ...moduleRequest, specifier: moduleRequest.value }));
  for (const { entries } of module.staticExports) {
    const request = entries[0]?.moduleRequest;
    if (request) found.push({ ...request, specifier: request.value });
  }
  const named = module.dynamicImports.map(({ moduleRequest }) => moduleRequest);
  const functions: { start: number; end: number }[] = [];
  const groups = new Set<unknown>();
  new Visitor({
    NewExpression(node) {
      const [first] = node.arguments;
      if (node.callee.type === 'Identifier' && node.callee.name === 'URL' && first) named.push(first);
    },
    CallExpression(node) {
      if (node.callee.type !== 'Identifier' || !['describe', 'suite'].includes(node.callee.name)) return;
      for (const argument of node.arguments) groups.add(argument);
    },
    FunctionDeclaration: (node) => void functions.push(node),
    FunctionExpression: (node) => void (groups.has(node) || functions.push(node)),
    ArrowFunctionExpression: (node) => void (groups.has(node) || functions.push(node)),
  }).visit(program);
  for (const { start, end } of named) {
    const literal = LITERAL.exec(text.slice(start, end));
    // Other URLs are data, or other places.
    if (literal?.[1].startsWith('.')) found.push({ value: literal[1], specifier: literal[1], start, end });
  }
  return {
    imports: found.map(({ specifier, start }) => ({ specifier, line: lineOf(start) })),
    functions: functions.map(({ start, end }) => ({ line: lineOf(start), lines: lineOf(end - 1) - lineOf(start) + 1 })),
  };
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}
