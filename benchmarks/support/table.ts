// Rows as a table on stdout.
import type { Ceilings, Row } from './measure';

type Work = Pick<Row, 'flops' | 'bytes' | 'ceilings'>;

export function ratesOf(row: Row): { gflops?: number; gbytes?: number } {
  return {
    ...(row.flops === undefined ? {} : { gflops: row.flops / row.median / 1e9 }),
    ...(row.bytes === undefined ? {} : { gbytes: row.bytes / row.median / 1e9 }),
  };
}

export interface Share {
  share: number;
  of: 'GEMM' | 'copy';
}

/**
 * The ceiling that bounds some work, and how much of it is reached: of the ceilings that were measured beside it, or else of
 * the run's. Under a roofline that is the larger of both shares.
 */
export function shareOf(work: Work, seconds: number, ofRun: Ceilings): Share | undefined {
  const { flops, bytes, ceilings = ofRun } = work;
  const shares: Share[] = [
    ...(flops && ceilings.flops ? [{ share: flops / seconds / ceilings.flops, of: 'GEMM' as const }] : []),
    ...(bytes && ceilings.bytes ? [{ share: bytes / seconds / ceilings.bytes, of: 'copy' as const }] : []),
  ];
  return shares.sort((a, b) => b.share - a.share)[0];
}

export const formatShare = ({ share, of }: Share): string => `${(100 * share).toFixed(0)} % of ${of}`;

/** How many times as long as flowmap a peer takes for the same work, both medians of the same run. */
export function timesFlowmap(row: Row, rows: readonly Row[]): number | undefined {
  const ours = rows.find(({ name, group }) => name === row.peerOf && group === row.group);
  return ours && row.median / ours.median;
}

export function formatTime(seconds: number): string {
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  return seconds >= 1e-3 ? `${(seconds * 1e3).toFixed(2)} ms` : `${(seconds * 1e6).toFixed(1)} µs`;
}

export const formatStepRate = (rate: number): string => `${rate.toPrecision(3)} steps/s`;

/** Decimal: 12.3 MB is 12.3 million bytes. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const at = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(bytes, 1)) / 3)));
  const value = bytes / 1000 ** at;
  return `${at === 0 ? value.toFixed(0) : value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${units[at]}`;
}

/** Lines of columns as wide as their widest cell; those named in `right` are flush right. */
export function alignColumns(lines: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths = lines[0]?.map((_, i) => Math.max(...lines.map((line) => line[i]!.length))) ?? [];
  return lines.map((line) =>
    line
      .map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
}

export function printTable(title: string, rows: readonly Row[], ceilings: Ceilings): void {
  const lines = rows.map((row) => {
    const { gflops, gbytes } = ratesOf(row);
    const shares: string[] = [];
    if (gflops !== undefined) shares.push(`${gflops.toFixed(1)} GFLOP/s`);
    if (gbytes !== undefined) shares.push(`${gbytes.toFixed(1)} GB/s`);
    if (row.steps !== undefined) shares.push(formatStepRate(row.steps / row.median));
    const reached = shareOf(row, row.median, ceilings);
    if (reached) shares.push(formatShare(reached));
    if (row.float64Error !== undefined) shares.push(`error ${row.float64Error.toExponential(1)}`);
    if (row.peakBytes !== undefined) shares.push(`peak ${formatBytes(row.peakBytes)}`);
    const times = timesFlowmap(row, rows);
    if (times !== undefined)
      shares.push(`${times.toFixed(2)} × flowmap, differs by ${row.difference?.toExponential(1)}`);
    return [row.name, formatTime(row.median), `${formatTime(row.p10)} – ${formatTime(row.p90)}`, shares.join(', ')];
  });
  console.log(`\n${title}`);
  for (const line of alignColumns(lines, [1])) console.log(`  ${line}`);
}
