// The page and the tables of a run: well-formed, nothing loaded, every figure from the run, every text escaped.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { logTicks } from '../../benchmarks/report/charts';
import { fitPower } from '../../benchmarks/report/fit';
import { markdownOf } from '../../benchmarks/report/markdown';
import { pageOf } from '../../benchmarks/report/page';
import { formatRate } from '../../benchmarks/report/tables';
import { formatLaw, growthOf } from '../../benchmarks/support/growth';
import type { Run } from '../../benchmarks/support/runFile';
import { formatBytes, formatTime, shareOf } from '../../benchmarks/support/table';
import { figure, run, stored } from './support';

const grows = (value: number) => ({ scaling: { series: 'H 4, D 64', variable: 'tokens', value } });

const whole = run(
  [
    figure('ceilings', '', 'sgemm', 0.0431, { flops: 1.7e10 }),
    figure('attention', 'S 256', 'value', 0.00131, { flops: 3e8, bytes: 1.1e6, error: 3.4e-7, ...grows(256) }),
    figure('attention', 'S 1024', 'value', 0.01731, { flops: 4.8e9, bytes: 4.4e6, ...grows(1024) }),
    figure('attention', 'S 1024', '  PyTorch', 0.0871, {
      flops: 4.8e9,
      peerOf: 'value',
      timesFlowmap: 5.03,
      difference: 3e-7,
    }),
    figure('norm', '512 × 96', 'rmsNorm', 4.21e-5, { bytes: 393216, peakBytes: 196608 }),
  ],
  { peers: ['PyTorch 9.9, 4 threads'] },
);

/** Throws unless every element is closed in its turn. */
function checkNesting(page: string): void {
  const html = page.replace(/<style>.*?<\/style>/s, '');
  const open: string[] = [];
  const empty = new Set(['meta', 'br']);
  for (const [, close, name, , self] of html.matchAll(/<(\/?)([a-zA-Z][\w]*)((?:"[^"]*"|[^">])*?)(\/?)>/g)) {
    if (close) expect([name, open.pop()]).toEqual([name, name]);
    else if (!self && !empty.has(name!)) open.push(name!);
  }
  expect(open).toEqual([]);
}

describe('a page', () => {
  const page = pageOf(whole);

  it('is well-formed and loads nothing', () => {
    expect(page.startsWith('<!doctype html>')).toBe(true);
    checkNesting(page);
    expect(page).not.toMatch(/https?:|src=|@import|url\(/);
    expect(page).not.toMatch(/NaN|undefined|Infinity|null/);
    expect(page).toContain('prefers-color-scheme: dark');
  });

  it('names machine, commit, date, command, versions and peers in its head', () => {
    for (const text of [
      'A Processor, 4 cores',
      'abc1234',
      '2026-01-02',
      'norm --json a.json',
      'node v20.0.0',
      'PyTorch 9.9',
    ]) {
      expect(page).toContain(text);
    }
  });

  it('shows in its table exactly the figures of the run', () => {
    const cells = [...page.matchAll(/<td>([^<]*)<\/td>/g)].map(([, text]) => text!);
    const expected = whole.results.flatMap((row) => {
      const { median, p10, p90 } = row.seconds;
      const reached = row.family === 'ceilings' ? undefined : shareOf(row, median, whole.ceilings);
      return [
        row.name.trim(),
        formatTime(median),
        `${formatTime(p10)} – ${formatTime(p90)}`,
        ...(row.flops ? [formatRate(row.flops / median, 'FLOP/s')] : []),
        ...(row.bytes ? [formatRate(row.bytes / median, 'B/s')] : []),
        ...(reached ? [`${(100 * reached.share).toFixed(0)} % of ${reached.of}`] : []),
        ...(row.peakBytes ? [formatBytes(row.peakBytes)] : []),
        ...(row.error ? [row.error.toExponential(1)] : []),
        ...(row.timesFlowmap ? [`${row.timesFlowmap.toFixed(2)} ×`, row.difference!.toExponential(1)] : []),
      ];
    });
    const laws = growthOf(whole.results).map(formatLaw);
    expect(laws).toEqual([expect.stringMatching(/^∝ tokens\^1\.\d\d$/)]);
    expect(cells.filter((text) => text !== '').sort()).toEqual([...expected, ...laws].sort());
  });

  it('draws the roofline, the growth with its exponent, shares, and peers', () => {
    for (const title of ['Roofline', 'Time against tokens, H 4, D 64', 'S 1024: value']) expect(page).toContain(title);
    const law = fitPower([
      [256, 0.00131],
      [1024, 0.01731],
    ])!;
    expect(page).toContain(`value: exponent ${law.exponent.toFixed(2)}`);
    expect(page).toContain('87.10 ms, 5.03 ×');
    // One point per row that has operations and bytes, and one per size.
    expect([...page.matchAll(/<circle[^>]*><title>/g)]).toHaveLength(4);
  });

  it('does without what a run lacks', () => {
    const bare = pageOf(
      run([figure('f', 'g', 'n', 1)], { ceilings: {}, machine: {}, commit: undefined, date: undefined }),
    );
    checkNesting(bare);
    expect(bare).toContain('an unknown processor');
    expect(bare).not.toMatch(/<svg|NaN|undefined|Infinity/);
  });

  it('escapes what the run says', () => {
    const evil = '<script>"&';
    const hostile: Run = run(
      whole.results.map((row) => ({ ...row, family: `f${evil}`, group: `g${evil}`, name: `n${evil}${row.name}` })),
      { commit: evil, command: evil, machine: { cpu: evil, threads: 1 }, peers: [evil], versions: { [evil]: evil } },
    );
    const text = pageOf(hostile);
    expect(text).not.toContain('<script');
    expect(text).not.toContain('"&"');
    expect(text).toContain('&lt;script&gt;&quot;&amp;');
    checkNesting(text);
  });
});

it('the Markdown has the same figures, one table a family, and escapes cells', () => {
  const text = markdownOf(whole);
  expect(text).toContain('## attention');
  expect(text).toContain('- commit: abc1234');
  for (const line of text.split('\n').filter((each) => each.startsWith('|'))) expect(line).toMatch(/^\|( .* \|)+$/);
  expect(text).toContain('| S 1024 | value | 17.31 ms |');
  expect(text).toContain('|  | – PyTorch | 87.10 ms |');
  expect(markdownOf(run([figure('f', 'a|b', '<i>', 1)]))).toContain('| a\\|b | &lt;i> |');
});

it('a fitted exponent is that of the power law behind the points, and there is none without two sizes', () => {
  const law = (x: number) => 3e-6 * x ** 1.75;
  const { exponent, factor } = fitPower([64, 100, 777, 4096].map((x) => [x, law(x)] as const))!;
  expect(exponent).toBeCloseTo(1.75, 10);
  expect(factor).toBeCloseTo(3e-6, 12);
  const off = [1.1, 0.9, 0.9, 1.1].map((by, i) => [2 ** i, by * law(2 ** i)] as const);
  expect(fitPower(off)!.exponent).toBeCloseTo(1.75, 10);
  expect(fitPower([[8, 1]])).toBeNull();
  expect(
    fitPower([
      [8, 1],
      [8, 2],
    ]),
  ).toBeNull();
});

it('log axes have from two to twelve round ticks within their range', () => {
  for (const [low, high] of [
    [1, 1000],
    [3, 40],
    [1e-6, 1],
    [0.9, 2.1],
    [1.3e-5, 7e9],
  ] as const) {
    const ticks = logTicks(low, high);
    expect(ticks.length).toBeGreaterThanOrEqual(2);
    expect(ticks.length).toBeLessThanOrEqual(12);
    expect(ticks.every((tick) => tick >= low * 0.999 && tick <= high * 1.001)).toBe(true);
  }
});

it('a work with operations and bytes is bound by the ceiling it comes nearer to', () => {
  const ceilings = { flops: 100, bytes: 10 };
  expect(shareOf({ flops: 50, bytes: 1 }, 1, ceilings)).toEqual({ share: 0.5, of: 'GEMM' });
  expect(shareOf({ flops: 50, bytes: 8 }, 1, ceilings)).toEqual({ share: 0.8, of: 'copy' });
  expect(shareOf({}, 1, ceilings)).toBeUndefined();
  // What was measured beside the work counts for more than the run's best.
  expect(shareOf({ flops: 50, bytes: 1, ceilings: { flops: 80, bytes: 8 } }, 1, ceilings)).toEqual({
    share: 0.625,
    of: 'GEMM',
  });
  expect(shareOf({ flops: 50 }, 1, {})).toBeUndefined();
});

it('`bench report` writes both files from a run measured before', () => {
  const json = stored(whole);
  const [page, markdown] = [`${json}.html`, `${json}.md`];
  const command = ['benchmarks/run.ts', 'report', json, '--report', page, '--markdown', markdown];
  execFileSync(process.execPath, ['-r', './scripts/typescript.cjs', ...command], { cwd: join(__dirname, '../..') });
  expect(readFileSync(page, 'utf8')).toBe(pageOf(whole));
  expect(readFileSync(markdown, 'utf8')).toBe(markdownOf(whole));
});
