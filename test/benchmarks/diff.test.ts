// Comparing two runs: the rule for noise, rows in one run only, files of other kinds.
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { diff, formatDiff } from '../../benchmarks/support/diff';
import type { Row } from '../../benchmarks/support/measure';
import { figuresOf, readRun } from '../../benchmarks/support/runFile';
import { figure, run, stored } from './support';

const root = join(__dirname, '../..');
const bench = ['-r', './scripts/typescript.cjs', 'benchmarks/run.ts'];

describe('bench diff', () => {
  it('takes a difference for real only where the ranges of the two runs do not overlap', () => {
    const spread = (median: number, p10: number, p90: number) => ({ seconds: { median, p10, p90 } });
    const rows = (b: ReturnType<typeof spread>) =>
      diff(run([figure('f', 'g', 'n', 1, spread(1, 0.9, 1.2))]), run([figure('f', 'g', 'n', 1, b)])).compared[0]!;
    expect(rows(spread(1.3, 1.19, 1.4))).toMatchObject({ ratio: 1.3, verdict: 'within the noise' });
    expect(rows(spread(1.3, 1.21, 1.4))).toMatchObject({ ratio: 1.3, verdict: 'slower' });
    expect(rows(spread(0.8, 0.7, 0.91))).toMatchObject({ ratio: 0.8, verdict: 'within the noise' });
    expect(rows(spread(0.8, 0.7, 0.89))).toMatchObject({ ratio: 0.8, verdict: 'faster' });
    expect(rows(spread(1, 1.2, 1.2)).verdict).toBe('within the noise');
  });

  it('pairs rows by family, group and name, and names those that are in one run only', () => {
    const a = run([figure('norm', 'g', 'same', 1), figure('norm', 'g', 'gone', 1), figure('norm', 'g2', 'same', 2)]);
    const b = run([figure('norm', 'g', 'same', 3), figure('matmul', 'g', 'same', 1), figure('norm', 'g2', 'same', 2)]);
    const { compared, onlyA, onlyB } = diff(a, b);
    expect(compared.map(({ a: { group }, ratio }) => [group, ratio])).toEqual([
      ['g', 3],
      ['g2', 1],
    ]);
    expect(onlyA.map(({ name }) => name)).toEqual(['gone']);
    expect(onlyB.map(({ family }) => family)).toEqual(['matmul']);
    const text = formatDiff(a, b);
    expect(text).toContain('Only in a:\n  norm: g: gone');
    expect(text).toContain('Only in b:\n  matmul: g: same');
  });

  it('tells apart peers of one name that do the work of different rows', () => {
    const peer = (peerOf: string, median: number) => figure('f', 'g', 'PyTorch', median, { peerOf, timesFlowmap: 2 });
    const a = run([figure('f', 'g', 'x', 1), peer('x', 2), figure('f', 'g', 'y', 1), peer('y', 4)]);
    const b = run([figure('f', 'g', 'y', 1), peer('y', 8), figure('f', 'g', 'x', 1), peer('x', 2)]);
    expect(diff(a, b).compared.map(({ ratio }) => ratio)).toEqual([1, 1, 1, 2]);
  });

  it('compares machines and ceilings before anything else, and says where the machine itself differs', () => {
    const ceiling = (median: number) => figure('ceilings', 'c', 'copy', median);
    const a = run([figure('norm', 'g', 'n', 1), ceiling(1)]);
    const b = run([figure('norm', 'g', 'n', 1), ceiling(2)], {
      commit: 'def5678-modified',
      machine: { cpu: 'A Processor', cores: 4, threads: 2 },
    });
    const text = formatDiff(a, b);
    for (const line of [
      /threads +a +4\n +b +2/,
      /commit +a +abc1234\n +b +def5678-modified/,
      /CPU +both +A Processor/,
    ]) {
      expect(text).toMatch(line);
    }
    expect(text).toContain('The machine itself was not the same: copy is slower.');
    expect(text.indexOf('ceilings: c')).toBeLessThan(text.indexOf('norm: g'));
    expect(text).toContain('do not overlap');
    expect(text).toContain('1 rows compared: 0 faster, 0 slower, 1 within the noise');
  });

  it('reads files from before machines, peers and operations were written down', () => {
    const seconds = { median: 2e-3, p10: 1e-3, p90: 3e-3 };
    const old = readRun(
      stored({
        machine: { cpu: 'B', cores: 2, memoryBytes: 1, node: 'v20.1.0' },
        results: [
          { family: 'f', group: 'g', name: 'ours', seconds, gflops: 5, gbytes: 3 },
          { family: 'f', group: 'g', name: '  theirs', seconds, timesFlowmap: 1, difference: 0 },
        ],
      }),
    );
    expect(old.machine.threads).toBeUndefined();
    expect(old.results[0]!.flops).toBeCloseTo(1e7, 0);
    expect(old.results[0]!.bytes).toBeCloseTo(6e6, 0);
    expect(old.results[1]!.peerOf).toBe('ours');
    expect(formatDiff(old, old)).toContain('node v20.1.0');
    expect(formatDiff(old, run([]))).toMatch(/threads +a +not recorded\n +b +4/);
  });

  it("reads a GPU's figures, whose ceiling is the copy's", () => {
    const seconds = { median: 2e-3, p10: 1e-3, p90: 3e-3 };
    const gpu = readRun(
      stored({
        emulated: false,
        device: 'A GPU',
        ceiling: { bytes: 1e9, copySeconds: 1e-3 },
        results: [{ family: 'f', group: 'g', name: 'n', seconds, tflops: 2 }],
      }),
    );
    expect(gpu).toMatchObject({ machine: { gpu: 'A GPU' }, ceilings: { bytes: 2e12 } });
    expect(gpu.results[0]!.flops).toBeCloseTo(4e9, 0);
  });

  it('reads what was written', () => {
    const row: Row = { group: 'g', name: 'n', median: 2, p10: 1, p90: 3, flops: 8, float64Error: 1e-7 };
    const theirs: Row = { group: 'g', name: 'p', median: 4, p10: 4, p90: 4, peerOf: 'n', difference: 0.5 };
    const { results } = readRun(stored({ results: figuresOf('f', [row, theirs]) }));
    const seconds = { median: 2, p10: 1, p90: 3 };
    expect(results).toEqual([
      { family: 'f', group: 'g', name: 'n', seconds, flops: 8, error: 1e-7 },
      expect.objectContaining({ name: 'p', peerOf: 'n', timesFlowmap: 2, difference: 0.5 }),
    ]);
  });

  it('says which file cannot be read, and why', () => {
    expect(() => readRun('/nowhere/a.json')).toThrow(/cannot read '\/nowhere\/a.json': ENOENT/);
    expect(() => readRun(stored('{'))).toThrow(/cannot read '.*run.json'/);
    for (const other of [null, {}, { results: {} }, { results: [{ family: 'f', name: 'n' }] }]) {
      expect(() => readRun(stored(other))).toThrow(/is not a run of the benchmarks/);
    }
    expect(() => readRun(stored({ emulated: true, results: [] }))).toThrow(/on the emulator, which has no times/);
  });

  it('ends with status 0 whatever the rows say, and with another where a file cannot be read', () => {
    const [a, b] = [stored(run([figure('f', 'g', 'n', 1)])), stored(run([figure('f', 'g', 'n', 9)]))];
    const text = execFileSync(process.execPath, [...bench, 'diff', a, b], { cwd: root, encoding: 'utf8' });
    expect(text).toContain('1 slower');
    const failed = spawnSync(process.execPath, [...bench, 'diff', a, 'absent.json'], { cwd: root, encoding: 'utf8' });
    expect(failed.status).toBe(1);
    expect(failed.stderr).toContain("bench: cannot read 'absent.json'");
  });
});
