/** The report as Markdown (GitHub's, which has tables). */
import type { Part, Table } from './document.ts';

/** As plain text: nothing in it is taken for Markdown or HTML, and it stays on its line. */
export function escapedMarkdown(text: string): string {
  return text
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_[\]|]/g, '\\$&')
    .replace(/[&<>]/g, (mark) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[mark] ?? mark)
    .replace(/^(\d+)([.)])(?= )/, '$1\\$2')
    .replace(/^(?:#|\+|-(?=.))/, '\\$&');
}

/** Charts are files beside it. */
export function markdownOf(parts: readonly Part[]): string {
  return `${parts.map(write).join('\n\n')}\n`;
}

function write(part: Part): string {
  switch (part.kind) {
    case 'heading':
      return `${'#'.repeat(part.level)} ${escapedMarkdown(part.text)}`;
    case 'paragraph':
      return escapedMarkdown(part.text);
    case 'list':
      return part.items.map((item) => `- ${escapedMarkdown(item)}`).join('\n');
    case 'chart':
      return `![${escapedMarkdown(part.chart.title)}](${part.chart.name}.svg)`;
    case 'table':
      return writeTable(part);
  }
}

function writeTable({ head, rows }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(escapedMarkdown).join(' | ')} |`;
  const rule = `|${head.map((_, i) => (i === 0 ? '---' : '---:')).join('|')}|`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}
