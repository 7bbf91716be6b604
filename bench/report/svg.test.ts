import assert from 'node:assert/strict';
import { test } from 'node:test';

import { chartsOf, documentOf } from './document.ts';
import { type Chart, escaped, svgElement, svgFile } from './svg.ts';
import { RESULT } from './testing.ts';

const CHART: Chart = {
  name: 'made-up',
  title: 'Made up & "quoted"',
  legend: [{ label: 'ours', color: '#123456' }],
  panels: [
    {
      title: 'one <row>',
      bars: [
        { label: 'a', value: 10, text: '10', color: '#123456', middleHalf: [8, 20] },
        { label: 'b', value: 5, text: '5', color: '#123456' },
        { label: 'c', value: undefined, text: 'nothing', color: '#123456' },
      ],
    },
    { title: 'two', bars: [{ label: 'a', value: 40, text: '40', color: '#123456' }] },
  ],
  columns: 2,
  sameScale: false,
};

/** Fails unless tags nest, attributes are quoted and unique, and text holds no bare mark: XML, as far as it is used. */
function assertWellFormed(xml: string): void {
  const open: string[] = [];
  const text = /^(?:[^<&>]|&(?:amp|lt|gt|quot|#39);)*$/;
  const attribute = /\s+([a-zA-Z:-]+)="((?:[^<&"]|&(?:amp|lt|gt|quot|#39);)*)"/g;
  let roots = 0;
  for (const [, tag, rest] of xml.replace(/^<\?xml [^?]*\?>\n/, '').matchAll(/<([^>]*)>([^<]*)/g)) {
    assert.match(rest, text);
    if (tag.startsWith('/')) {
      assert.equal(open.pop(), tag.slice(1));
      continue;
    }
    const [, name, attributes, end] = tag.match(/^([a-z]+)(.*?)(\/?)$/s) ?? assert.fail(`<${tag}> is no tag`);
    assert.equal(attributes.replace(attribute, ''), '', tag);
    const names = [...attributes.matchAll(attribute)].map(([, each]) => each);
    assert.equal(new Set(names).size, names.length, tag);
    if (open.length === 0) roots += 1;
    if (end === '') open.push(name);
  }
  assert.deepEqual(open, []);
  assert.equal(roots, 1);
}

/** x and width of every bar: the legend's squares and the background are no bars. */
function barsOf(svg: string): [x: number, width: number][] {
  const bars = svg.matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="13"/g);
  return [...bars].map(([, x, width]) => [Number(x), Number(width)]);
}

test('charts are well-formed XML, whatever the texts', () => {
  const charts = chartsOf(documentOf(RESULT));
  assert.deepEqual(
    charts.map(({ name }) => name),
    [
      'ratios',
      ...['smallfile-rate', 'smallfile-cpu', 'smallfile-messages'],
      ...['fio-rate', 'fio-cpu', 'fio-messages'],
    ],
  );
  for (const chart of [CHART, ...charts]) {
    assertWellFormed(svgFile(chart));
    assertWellFormed(svgElement(chart));
    assert.match(svgFile(chart), /<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    assert.doesNotMatch(svgFile(chart), /NaN|undefined|Infinity|<script/);
  }
});

test('the check of well-formedness finds what is not', () => {
  for (const wrong of [
    '<a><b></a></b>',
    '<a>',
    '<a/><b/>',
    '<a x=1/>',
    '<a x="1" x="2"/>',
    '<a>&</a>',
    '<a>&nbsp;</a>',
  ]) {
    assert.throws(() => assertWellFormed(wrong), assert.AssertionError, wrong);
  }
});

test('bars are as long as their values say, from one foot, on a scale of their own or on that of all', () => {
  const [[footA, a], [footB, b], [, other]] = barsOf(svgElement(CHART));
  assert.equal(footA, footB);
  assert.ok(Math.abs(a - 2 * b) < 0.2, `${a} is twice ${b}`);
  // The middle half ends at 20, and so does the scale.
  assert.ok(Math.abs(other - 2 * a) < 0.2, `${other} is twice ${a}`);
  const [[, sameA], , [, sameOther]] = barsOf(svgElement({ ...CHART, sameScale: true }));
  assert.ok(Math.abs(sameOther - 4 * sameA) < 0.4, `${sameOther} is four times ${sameA}`);
});

test('a value that is missing is said, and 0 is a line', () => {
  const [panel] = CHART.panels;
  const svg = svgElement({ ...CHART, panels: [{ ...panel, bars: [{ ...panel.bars[1], value: 0 }, panel.bars[2]] }] });
  assert.deepEqual(
    barsOf(svg).map(([, width]) => width),
    [1],
  );
  assert.match(svg, />nothing<\/text>/);
});

test('what ends behind the right edge is not drawn: labels are cut, bars leave room for their texts', () => {
  const long = 'a very long name of a contestant that has no place to be, even beside the shortest of all bars';
  const bars = [{ label: long, value: 3, text: '12345678 (~)', color: '#123456' }];
  const svg = svgElement({ ...CHART, panels: [{ title: long, bars }] });
  assert.doesNotMatch(svg, new RegExp(`>${long}<`));
  assert.match(svg, />a very long name[a-z ]*\.\.</);
  const [[x, width]] = barsOf(svg);
  // Two columns in 960.
  assert.ok(x + width + '12345678 (~)'.length * 7 < 480, `the bar ends at ${x + width}`);
});

test('marks are escaped, and characters that XML forbids are replaced', () => {
  assert.equal(escaped(`<a href="x">'&'</a>`), '&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;');
  assert.equal(escaped('a\u0000b\u001bc\ud800d\u{1f600}'), 'a?b?c?d\u{1f600}');
});
