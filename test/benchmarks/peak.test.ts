// Peak memory of rows: what one run takes above what was there, the same each time, told wherever figures are.
import { figureOf, printFigures } from '../../benchmarks/gpu/figures';
import { markdownOf } from '../../benchmarks/report/markdown';
import { formatDiff } from '../../benchmarks/support/diff';
import { measure, peakMemory } from '../../benchmarks/support/measure';
import { figuresOf, readRun } from '../../benchmarks/support/runFile';
import { formatBytes, printTable } from '../../benchmarks/support/table';
import { memory, mul, ones, synchronizeSync, type Tensor } from '../../lib';
import { describeOnDevices } from '../support/devices';
import { figure, run, stored } from './support';

const size = 4 * 2 ** 15;

describeOnDevices('the peak of a run', (device) => {
  const withInput = (use: (x: Tensor) => void) => {
    const x = ones([2 ** 15], { device });
    use(x);
    x.dispose();
  };

  it('is that of its results and of what it makes on the way, however large what is held', () =>
    withInput((x) => {
      expect(peakMemory(() => mul(x, 2), device)).toBe(size);
      expect(peakMemory(() => mul(mul(x, 2), 3), device)).toBe(2 * size);
      expect(peakMemory(() => null, device)).toBe(0);
    }));

  it('does not count what was disposed of before the next was made, nor depend on what ran before', () =>
    withInput((x) => {
      const chain = () => {
        let y = mul(x, 2);
        for (let i = 0; i < 5; i++) {
          const next = mul(y, 2);
          y.dispose();
          y = next;
        }
        return y;
      };
      const peaks = [1, 2, 3].map(() => peakMemory(chain, device));
      expect(peaks).toEqual([2 * size, 2 * size, 2 * size]);
      synchronizeSync(device);
      expect(memory(device).bytes).toBeGreaterThanOrEqual(size);
    }));
});

it('a row of flowmap has a peak, one of a peer none', async () => {
  const x = ones([1024]);
  const [ours, theirs] = await measure(
    [
      { name: 'ours', run: () => mul(x, 2) },
      { name: 'theirs', time: async () => 1e-3 },
    ],
    { rounds: 1, atLeast: 0 },
  );
  expect(ours!.peakBytes).toBe(4096);
  expect(theirs).not.toHaveProperty('peakBytes');
  x.dispose();
});

describe('a peak is told', () => {
  const row = { group: 'g', name: 'n', median: 1, p10: 1, p90: 1, peakBytes: 12_345_678 };

  it('in JSON, of the CPU and of a GPU, and read from it', () => {
    const [figured] = figuresOf('f', [row]);
    expect(figured!.peakBytes).toBe(12_345_678);
    expect(readRun(stored({ results: [figured] })).results[0]!.peakBytes).toBe(12_345_678);
    expect(figureOf('f', row, 1).peakBytes).toBe(12_345_678);
  });

  it('in tables on the terminal and in Markdown', () => {
    const log = jest.spyOn(console, 'log').mockImplementation(() => {});
    printTable('f', [row], {});
    printFigures('f', [figureOf('f', row, 1)]);
    const lines = log.mock.calls.flat();
    log.mockRestore();
    expect(lines.filter((line) => String(line).includes('peak 12.3 MB'))).toHaveLength(2);
    const markdown = markdownOf(run([figure('f', 'g', 'n', 1, { peakBytes: 12_345_678 })]));
    expect(markdown).toContain('Peak memory');
    expect(markdown).toContain('| 12.3 MB |');
  });

  it('by diff where it is not the same in both, to the byte', () => {
    const of = (peakBytes?: number) => run([figure('f', 'g', 'n', 1, { peakBytes })]);
    expect(formatDiff(of(2e6), of(3e6))).toMatch(/within the noise +peak 2.00 MB → 3.00 MB/);
    expect(formatDiff(of(2_000_001), of(2_000_002))).toContain('peak 2000001 → 2000002 B');
    expect(formatDiff(of(2e6), of(3e6))).toContain('the peak of memory differs in 1.');
    for (const other of [of(2e6), of()]) expect(formatDiff(of(2e6), other)).toContain('differs in 0.');
  });
});

it('bytes are told in decimal units, three digits of them', () => {
  const told = [0, 999, 1000, 12_345_678, 123_456_789, 4.5e9, 7e15].map(formatBytes);
  expect(told).toEqual(['0 B', '999 B', '1.00 kB', '12.3 MB', '123 MB', '4.50 GB', '7000 TB']);
});
