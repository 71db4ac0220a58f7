// Rows as a table on stdout and, where asked, as JSON with the machine in its head.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import type { Row } from './measure';

export interface Ceilings {
  /** Best measured floating-point rate, per second. */
  flops?: number;
  /** Best measured bandwidth, bytes per second. */
  bytes?: number;
}

export function ratesOf(row: Row): { gflops?: number; gbytes?: number } {
  return {
    ...(row.flops === undefined ? {} : { gflops: row.flops / row.median / 1e9 }),
    ...(row.bytes === undefined ? {} : { gbytes: row.bytes / row.median / 1e9 }),
  };
}

/** How many times as long as flowmap a peer takes for the same work, both medians of the same run. */
export function timesFlowmap(row: Row, rows: readonly Row[]): number | undefined {
  const ours = rows.find(({ name, group }) => name === row.peerOf && group === row.group);
  return ours && row.median / ours.median;
}

export function formatTime(seconds: number): string {
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  return seconds >= 1e-3 ? `${(seconds * 1e3).toFixed(2)} ms` : `${(seconds * 1e6).toFixed(1)} µs`;
}

export function printTable(title: string, rows: readonly Row[], ceilings: Ceilings): void {
  const cells = rows.map((row) => {
    const { gflops, gbytes } = ratesOf(row);
    const shares: string[] = [];
    if (gflops !== undefined) {
      shares.push(`${gflops.toFixed(1)} GFLOP/s`);
      if (ceilings.flops) shares.push(`${((100 * gflops * 1e9) / ceilings.flops).toFixed(0)} % of sgemm`);
    }
    if (gbytes !== undefined) {
      shares.push(`${gbytes.toFixed(1)} GB/s`);
      if (ceilings.bytes) shares.push(`${((100 * gbytes * 1e9) / ceilings.bytes).toFixed(0)} % of copy`);
    }
    const times = timesFlowmap(row, rows);
    if (times !== undefined)
      shares.push(`${times.toFixed(2)} × flowmap, differs by ${row.difference?.toExponential(1)}`);
    return [row.name, formatTime(row.median), `${formatTime(row.p10)} – ${formatTime(row.p90)}`, shares.join(', ')];
  });
  const widths = [0, 1, 2].map((i) => Math.max(...cells.map((cell) => cell[i]!.length)));
  console.log(`\n${title}`);
  for (const [name, median, range, rates] of cells) {
    console.log(
      `  ${name!.padEnd(widths[0]!)}  ${median!.padStart(widths[1]!)}  ${range!.padEnd(widths[2]!)}  ${rates}`,
    );
  }
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

/** Writes everything a later reader needs to judge the figures. */
export function writeJson(
  path: string,
  groups: Record<string, readonly Row[]>,
  ceilings: Ceilings,
  peers?: readonly string[],
): void {
  const results = Object.entries(groups).flatMap(([family, rows]) =>
    rows.map((row) => ({
      family,
      ...(row.group === undefined ? {} : { group: row.group }),
      ...(row.group === undefined ? {} : { group: row.group }),
      name: row.name,
      seconds: { median: row.median, p10: row.p10, p90: row.p90 },
      ...ratesOf(row),
      ...(row.peerOf === undefined ? {} : { timesFlowmap: timesFlowmap(row, rows), difference: row.difference }),
    })),
  );
  const machine = {
    cpu: cpus()[0]?.model.trim(),
    cores: cpus().length,
    memoryBytes: totalmem(),
    node: process.version,
  };
  const head = {
    date: new Date().toISOString(),
    commit: commit(),
    command: process.argv.slice(2).join(' '),
    machine,
    ...(peers ? { peers } : {}),
    ceilings,
  };
  writeFileSync(path, `${JSON.stringify({ ...head, results }, null, 2)}\n`);
}
