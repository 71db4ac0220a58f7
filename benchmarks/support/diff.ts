// Two runs compared row by row, with a rule for what is noise. The machines come first: on two of them, ratios of times say
// little about the code.
import type { Figure, Run } from './runFile';
import { alignColumns, formatBytes, formatTime } from './table';

export const noiseRule =
  'A row is faster or slower where the p10–p90 ranges of the two runs do not overlap; else the difference is within the noise.';

export const peakRule =
  "A row's peak of memory does not vary from run to run (with one number of threads), so any difference of it is named.";

export type Verdict = 'faster' | 'slower' | 'within the noise';

export interface Comparison {
  a: Figure;
  b: Figure;
  /** Median of b over that of a. */
  ratio: number;
  verdict: Verdict;
  /** Whether both have a peak of memory, and not the same. */
  peakChanged: boolean;
}

export interface Diff {
  compared: Comparison[];
  onlyA: Figure[];
  onlyB: Figure[];
}

function compare(a: Figure, b: Figure): Comparison {
  const verdict =
    b.seconds.p90 < a.seconds.p10 ? 'faster' : b.seconds.p10 > a.seconds.p90 ? 'slower' : 'within the noise';
  const peakChanged = a.peakBytes !== undefined && b.peakBytes !== undefined && a.peakBytes !== b.peakBytes;
  return { a, b, ratio: b.seconds.median / a.seconds.median, verdict, peakChanged };
}

/** Rows by what names them; the occurrence tells apart those of one name. */
function keyed(figures: readonly Figure[]): Map<string, Figure> {
  const seen = new Map<string, number>();
  return new Map(
    figures.map((figure) => {
      const { family, group, name, peerOf } = figure;
      const key = JSON.stringify([family, group ?? null, name, peerOf ?? null]);
      const occurrence = (seen.get(key) ?? 0) + 1;
      seen.set(key, occurrence);
      return [`${key} ${occurrence}`, figure];
    }),
  );
}

export function diff(a: Run, b: Run): Diff {
  const [inA, inB] = [keyed(a.results), keyed(b.results)];
  const compared = [...inA].flatMap(([key, figure]) => (inB.has(key) ? [compare(figure, inB.get(key)!)] : []));
  return {
    compared,
    onlyA: [...inA].filter(([key]) => !inB.has(key)).map(([, figure]) => figure),
    onlyB: [...inB].filter(([key]) => !inA.has(key)).map(([, figure]) => figure),
  };
}

/** What the head says of a run, in lines that stand side by side. */
export function headOf({
  machine,
  versions,
  date,
  commit,
  command,
  peers,
  timing,
}: Run): [label: string, value: string][] {
  const { cpu, cores, threads, memoryBytes, gpu, node } = machine;
  const software = Object.entries(versions ?? (node ? { node } : {})).map(([name, version]) => `${name} ${version}`);
  const facts: [string, string | undefined][] = [
    ['GPU', gpu],
    ['CPU', cpu && `${cpu}${cores ? `, ${cores} cores` : ''}`],
    ['threads', threads?.toString()],
    ['memory', memoryBytes && `${(memoryBytes / 2 ** 30).toFixed(1)} GiB`],
    ['commit', commit],
    ['date', date],
    ['command', command],
    ['timing', timing],
    ['versions', software.join(', ') || undefined],
    ['peers', peers?.join('; ')],
  ].map(([label, value]) => [label as string, value ? String(value) : undefined]);
  return facts.filter((fact): fact is [string, string] => fact[1] !== undefined);
}

function headLines(a: Run, b: Run): string[] {
  const [ofA, ofB] = [new Map(headOf(a)), new Map(headOf(b))];
  const labels = [...new Set([...ofA.keys(), ...ofB.keys()])];
  const lines = labels.flatMap((label) => {
    const [x, y] = [ofA.get(label) ?? 'not recorded', ofB.get(label) ?? 'not recorded'];
    return x === y
      ? [[label, 'both', x]]
      : [
          [label, 'a', x],
          ['', 'b', y],
        ];
  });
  return alignColumns(lines);
}

function describe({ name, peerOf }: Figure): string {
  return peerOf ? `  ${name.trim()} (${peerOf})` : name;
}

const titleOf = ({ family, group }: Figure) => (group === undefined ? family : `${family}: ${group}`);

/** Lines under the title of each one's group. */
function byGroup<T>(items: readonly T[], figure: (item: T) => Figure, lines: (items: readonly T[]) => string[]) {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const title = titleOf(figure(item));
    groups.set(title, [...(groups.get(title) ?? []), item]);
  }
  return [...groups].flatMap(([title, members]) => ['', title, ...lines(members).map((line) => `  ${line}`)]);
}

function describePeaks({ a, b, peakChanged }: Comparison): string {
  if (!peakChanged) return '';
  const [x, y] = [formatBytes(a.peakBytes!), formatBytes(b.peakBytes!)];
  return x === y ? `peak ${a.peakBytes} → ${b.peakBytes} B` : `peak ${x} → ${y}`;
}

/** The whole comparison as text. */
export function formatDiff(a: Run, b: Run): string {
  const { compared, onlyA, onlyB } = diff(a, b);
  const row = (each: Comparison) => [
    describe(each.a),
    formatTime(each.a.seconds.median),
    formatTime(each.b.seconds.median),
    `${each.ratio.toFixed(2)} ×`,
    each.verdict,
    describePeaks(each),
  ];
  const table = (rows: readonly Comparison[]) => alignColumns(rows.map(row), [1, 2, 3]);
  const isCeiling = ({ a: { family } }: Comparison) => family === 'ceilings';
  const [ceilings, rows] = [compared.filter(isCeiling), compared.filter((each) => !isCeiling(each))];
  const moved = ceilings.filter(({ verdict }) => verdict !== 'within the noise');
  const count = (verdict: Verdict) => rows.filter((each) => each.verdict === verdict).length;
  return [
    ...headLines(a, b),
    ...byGroup(ceilings, (each) => each.a, table),
    ...(moved.length > 0
      ? [
          `  The machine itself was not the same: ${moved.map((each) => `${each.a.name} is ${each.verdict}`).join(', ')}.`,
        ]
      : []),
    '',
    `Times are medians, a then b; the ratio is b over a. ${noiseRule} ${peakRule}`,
    ...byGroup(rows, (each) => each.a, table),
    ...(onlyA.length > 0
      ? ['', 'Only in a:', ...onlyA.map((each) => `  ${titleOf(each)}: ${describe(each).trim()}`)]
      : []),
    ...(onlyB.length > 0
      ? ['', 'Only in b:', ...onlyB.map((each) => `  ${titleOf(each)}: ${describe(each).trim()}`)]
      : []),
    '',
    `${rows.length} rows compared: ${count('faster')} faster, ${count('slower')} slower, ${count('within the noise')} within the noise; ${onlyA.length} only in a, ${onlyB.length} only in b; the peak of memory differs in ${rows.filter(({ peakChanged }) => peakChanged).length}.`,
  ].join('\n');
}
