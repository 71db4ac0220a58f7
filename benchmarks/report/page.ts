// A run as one page that loads nothing: tables and charts of each family, light or dark as the reader has it.
import { factsStyle, pageStyle } from '../../examples/pageStyle';
import { headOf } from '../support/diff';
import { type GrowthLine, growthOf } from '../support/growth';
import type { Figure, Run } from '../support/runFile';
import { formatShare, formatTime, shareOf } from '../support/table';
import { bars, escapeHtml, plot, type Series } from './charts';
import { type FamilyTable, formatRate, tablesOf } from './tables';

const style = `${pageStyle}${factsStyle}
:root { color-scheme: light dark; --track: #eef0f3; --other: #9aa3ad; --roof: #1d2228;
  --c0: #0b6e99; --c1: #c2571a; --c2: #3d7d3f; --c3: #8446a8; --c4: #b0307a; --c5: #8a6d00; --c6: #4856c8; --c7: #5c6670; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --lead: #ccd2d9; --soft: #9aa4b0; --line: #323a43; --accent: #58b7e0; --paper: #14181d;
  --track: #242b33; --other: #66717d; --roof: #e6e9ed;
  --c0: #58b7e0; --c1: #f0945a; --c2: #7cc47f; --c3: #c596e6; --c4: #ee82bd; --c5: #d9bb4a; --c6: #98a4ff; --c7: #aab4be; } }
.facts b { font-size: 21px; overflow-wrap: anywhere; }
h3 { font-size: 15px; margin: 28px 0 12px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; font-size: 14px; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); gap: 28px 40px; margin-bottom: 20px; }
.charts > * { min-width: 0; }
.scroll { overflow-x: auto; margin-bottom: 8px; }
td { white-space: nowrap; } td:first-child { min-width: 14em; white-space: normal; } th { vertical-align: bottom; }
th.group { text-align: left; color: var(--ink); font-weight: 600; font-size: 14px; padding-top: 20px; }
tr.peer td { color: var(--soft); } tr.peer td:first-child { padding-left: 16px; }
.plot { font-size: 12px; display: block; } .fit { fill: none; stroke-width: 1.5; } .roof { fill: none; stroke: var(--roof); stroke-width: 1.5; }
.mark { stroke: var(--paper); stroke-width: 1; } .key { width: 12px; height: 12px; margin-right: 4px; vertical-align: -1px; } figcaption span { display: inline-block; }
.bars { display: block; height: auto; font-size: 13px; } .bars text { fill: var(--ink); } .bars .value { fill: var(--soft); font-variant-numeric: tabular-nums; }
.track { fill: var(--track); } .ours { fill: var(--accent); } .other { fill: var(--other); } .bars .at { stroke: var(--ink); stroke-width: 1.5; }
@media (max-width: 600px) { body { padding: 24px 16px 48px; } .plot { font-size: 17px; } table { font-size: 14px; } th, td { padding: 6px 8px; } }
`;

const power = (value: number) => Number(value.toPrecision(3)).toString();

function seriesBy<T extends { figure: Figure }>(items: readonly T[], name: (item: T) => string): [string, T[]][] {
  const found = new Map<string, T[]>();
  for (const item of items) found.set(name(item), [...(found.get(name(item)) ?? []), item]);
  return [...found];
}

/** Operations per byte against the rate, under the measured ceilings. */
function roofline(figures: readonly Figure[], { ceilings }: Run): string {
  const { flops: peak, bytes: bandwidth } = ceilings;
  const placed = figures
    .filter(({ flops, bytes }) => flops && bytes)
    .map((figure) => ({ figure, x: figure.flops! / figure.bytes!, y: figure.flops! / figure.seconds.median }));
  if (!peak || !bandwidth || placed.length === 0) return '';
  const ridge = peak / bandwidth;
  const low = Math.min(ridge / 4, ...placed.map(({ x }) => x));
  const high = Math.max(ridge * 4, ...placed.map(({ x }) => x));
  const series: Series[] = seriesBy(placed, ({ figure }) => figure.name.trim()).map(([label, members]) => ({
    label,
    points: members.map(({ figure, x, y }) => ({
      x,
      y,
      title: `${figure.group ?? figure.family}: ${label}, ${power(x)} operations per byte, ${formatRate(y, 'FLOP/s')}`,
    })),
  }));
  return plot({
    title: 'Roofline',
    note: `the line is the least of ${formatRate(peak, 'FLOP/s')} (GEMM) and ${formatRate(bandwidth, 'B/s')} (copy) times operations per byte`,
    x: { label: 'operations per byte that must move', format: power },
    y: { label: 'FLOP/s', format: (v) => formatRateShort(v) },
    series,
    roof: [low, ridge, high].map((x) => ({ x, y: Math.min(peak, bandwidth * x) })),
  });
}

function formatRateShort(rate: number): string {
  const [scale, prefix] = rate >= 1e12 ? [1e12, 'T'] : rate >= 1e9 ? [1e9, 'G'] : [1e6, 'M'];
  return `${power(rate / scale)} ${prefix}`;
}

const timeTick = (seconds: number): string =>
  seconds >= 1 ? `${power(seconds)} s` : seconds >= 1e-3 ? `${power(seconds * 1e3)} ms` : `${power(seconds * 1e6)} µs`;

/** Time against a size, where rows share a line of several sizes. */
function scalings(figures: readonly Figure[]): string[] {
  const lines = growthOf(figures);
  const titles = lines.map(({ series, variable }) => `Time against ${variable}, ${series}`);
  return [...new Set(titles)].map((title) => {
    const members = lines.filter((_, i) => titles[i] === title);
    const { variable } = members[0]!;
    const sizesOf = (line: GrowthLine) => line.figures.map(({ scaling }) => scaling!.value);
    const series = members.map((line): Series => {
      const { name, law } = line;
      const sizes = sizesOf(line);
      return {
        label: `${name}: exponent ${law.exponent.toFixed(2)}`,
        points: line.figures.map(({ scaling, seconds }) => ({
          x: scaling!.value,
          y: seconds.median,
          title: `${name}: ${scaling!.value}, ${formatTime(seconds.median)}`,
        })),
        line: [sizes[0]!, sizes.at(-1)!].map((x) => ({ x, y: law.factor * x ** law.exponent })),
      };
    });
    const sizes = [...new Set(members.flatMap(sizesOf))].sort((x, y) => x - y);
    return plot({
      title,
      note: `lines are least squares of the logarithms: time grows as ${variable} to the exponent`,
      x: { label: variable, format: String, ...(sizes.length <= 8 ? { ticks: sizes } : {}) },
      y: { label: 'time of one run', format: timeTick },
      series,
    });
  });
}

/** Share of the ceiling, a chart for each group; the groups of a family that is all sizes of the same are too many. */
function shares({ groups }: FamilyTable, run: Run): string[] {
  if (groups.every(({ rows }) => rows.every(({ figure }) => figure.scaling))) return [];
  const found = groups.map(({ title, rows }) => ({
    title,
    items: rows.flatMap(({ figure }) => {
      const reached = shareOf(figure, figure.seconds.median, run.ceilings);
      if (!reached) return [];
      return [{ label: figure.name.trim(), value: reached.share, text: formatShare(reached), other: !!figure.peerOf }];
    }),
  }));
  const most = Math.max(1, ...found.flatMap(({ items }) => items.map(({ value }) => value)));
  return found.flatMap(({ title, items }) => (items.length > 0 ? [bars(title, items, most, 1)] : []));
}

/** Peers beside the row they do the work of, a chart for each such row. */
function peers({ groups }: FamilyTable): string[] {
  return groups.flatMap(({ title, rows }) =>
    rows.flatMap(({ figure: ours }) => {
      const theirs = rows
        .map(({ figure }) => figure)
        .filter(({ peerOf, timesFlowmap }) => peerOf === ours.name && timesFlowmap);
      if (theirs.length === 0) return [];
      const items = [
        { label: 'flowmap', value: 1, text: `${formatTime(ours.seconds.median)}, 1 ×` },
        ...theirs.map(({ name, seconds, timesFlowmap }) => ({
          label: name.trim(),
          value: timesFlowmap!,
          text: `${formatTime(seconds.median)}, ${timesFlowmap!.toFixed(2)} ×`,
          other: true,
        })),
      ];
      return [bars(`${title}: ${ours.name}`, items, Math.max(...items.map(({ value }) => value)), 1)];
    }),
  );
}

const charts = (title: string, figures: readonly string[]) =>
  figures.length > 0 ? `<h3>${title}</h3><div class="charts">${figures.join('')}</div>` : '';

function table({ header, groups }: FamilyTable): string {
  const rows = groups.flatMap(({ title, rows: members }) => [
    ...(title === '' ? [] : [`<tr><th class="group" colspan="${header.length}">${escapeHtml(title)}</th></tr>`]),
    ...members.map(
      ({ figure, cells }) =>
        `<tr${figure.peerOf ? ' class="peer"' : ''}>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`,
    ),
  ]);
  return `<div class="scroll"><table><thead><tr>${header.map((cell) => `<th>${escapeHtml(cell)}</th>`).join('')}</tr></thead><tbody>${rows.join('\n')}</tbody></table></div>`;
}

function section(family: FamilyTable, run: Run): string {
  if (family.family === 'ceilings') return `<section><h2>ceilings</h2>${table(family)}</section>`;
  const figures = run.results.filter((figure) => figure.family === family.family);
  const roof = roofline(figures, run);
  const besides = peers(family);
  return `<section><h2>${escapeHtml(family.family)}</h2>
${charts('Where the work lies, and how it grows', [...(roof ? [roof] : []), ...scalings(figures)])}
${charts('Time beside other libraries, same work, same run', besides)}
${charts('Share of the ceiling that bounds it', shares(family, run))}
<h3>Figures</h3>${table(family)}</section>`;
}

export function pageOf(run: Run): string {
  const { machine, ceilings, date, commit } = run;
  const on = machine.gpu ?? machine.cpu ?? 'an unknown processor';
  const facts: [string, string][] = [
    ...(ceilings.flops
      ? [[formatRate(ceilings.flops, 'FLOP/s'), 'matrix product, best of this run'] as [string, string]]
      : []),
    ...(ceilings.bytes ? [[formatRate(ceilings.bytes, 'B/s'), 'copy, best of this run'] as [string, string]] : []),
    ...(machine.threads && !machine.gpu ? [[`${machine.threads}`, 'threads'] as [string, string]] : []),
    ...(commit ? [[commit, 'commit'] as [string, string]] : []),
    ...(date ? [[date.slice(0, 10), 'date'] as [string, string]] : []),
  ];
  const head = headOf(run).map(([label, value]) => `<dt>${escapeHtml(label)}</dt><dd>${escapeHtml(value)}</dd>`);
  const tables = tablesOf(run);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>flowmap benchmarks</title><style>${style}</style></head><body>
<h1>flowmap benchmarks</h1>
<p class="lead">Measured on ${escapeHtml(on)}. Times are medians of repeated runs; their spread is from the tenth to the ninetieth percentile.</p>
<ul class="facts">${facts.map(([value, label]) => `<li><b>${escapeHtml(value)}</b><span>${escapeHtml(label)}</span></li>`).join('')}</ul>
<dl>${head.join('')}</dl>
${tables.map((family) => section(family, run)).join('\n')}
<footer>A row's operations and bytes follow its benchmark's convention: the operations the mathematics needs, and every input read once and every output written once. Where a row has both, its ceiling is the one it comes nearer to. More than all of a copy's rate is possible: the copy is far larger than the caches, and some work fits into them. Peak memory is what one run takes above what was held before, at most: results, what is made on the way, workspaces, in blocks of the allocator, without what it keeps for reuse and what libraries take for themselves. Errors are relative L2 distances from the same work in float64.</footer>
</body></html>
`;
}
