// Runs made up for the tests of what is done with runs.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Figure, Run } from '../../benchmarks/support/runFile';

export function figure(
  family: string,
  group: string,
  name: string,
  median: number,
  rest: Partial<Figure> = {},
): Figure {
  return { family, group, name, seconds: { median, p10: 0.95 * median, p90: 1.05 * median }, ...rest };
}

export function run(results: Figure[], rest: Partial<Run> = {}): Run {
  return {
    date: '2026-01-02T03:04:05.000Z',
    commit: 'abc1234',
    command: 'norm --json a.json',
    machine: { cpu: 'A Processor', cores: 4, threads: 4, memoryBytes: 2 ** 34 },
    versions: { flowmap: '0.1.0', node: 'v20.0.0' },
    ceilings: { flops: 4e11, bytes: 5e10 },
    results,
    ...rest,
  };
}

/** Writes to a folder of its own. @returns the path */
export function stored(content: unknown, name = 'run.json'): string {
  const path = join(mkdtempSync(join(tmpdir(), 'flowmap-bench-')), name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}
