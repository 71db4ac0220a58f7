// The kernel that gives all gradients of attention on Hopper, of heads wider than 64: errors against float64 beside those
// of eager 16-bit mathematics, and differences from the pair of kernels; what must not be seen; other schedules.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeOnDevices } from '../support/devices';
import { differencesOf, excessesOf, runCases } from './support/attentionHopperRuns';
import { splitBasic, splitCases, splitHard } from './support/attentionHopperSplitCases';

const fused = { FLOWMAP_HOPPER: 'fused', HOPPER_ORDER: 'any' };

describeOnDevices("attention's backward on Hopper in one kernel, of wide heads", (_, label) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flowmap-hopper-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const run = (which: keyof typeof splitCases, env: Record<string, string>) =>
    runCases(folder, which, splitCases[which], env);

  let first: ReturnType<typeof run>;
  (label === 'cpu' ? it.skip : it)('errs no more than eager mathematics', () => {
    first = run('split', { ...fused, SIMT_STATS: '1' });
    const compared = label === 'cuda-emulated' ? splitBasic : splitCases.split.length;
    expect(excessesOf(splitCases.split.slice(0, compared), first.gradients)).toEqual([]);
  });

  (label === 'cuda-emulated' ? it : it.skip)(
    'runs that kernel, and one for what it needs, for each width and type',
    () => {
      const names = first.kernels
        .map((line) => line.replace(/flowmap::cuda::/g, ''))
        .map((line) => /attention\w+Kernel<[^,]+, \w+<\d+/.exec(line)![0]);
      const expected = ['__nv_bfloat16', '__half'].flatMap((type) =>
        [96, 128].flatMap((dim) => [
          `attentionDqHopperKernel<${type}, HopperDqTile<${dim}`,
          `attentionSplitHopperKernel<${type}, SplitTile<${dim}`,
        ]),
      );
      expect([...new Set(names)].sort()).toEqual(expected.sort());
    },
  );

  (label === 'cpu' ? it.skip : it)('differs from the pair of kernels in roundings alone', () => {
    const pair = run('split', { FLOWMAP_HOPPER: 'fused', SIMT_STATS: '1' });
    expect(pair.kernels.filter((line) => line.includes('Split'))).toEqual([]);
    const [ours, theirs] = [first, pair].map(({ gradients }) => gradients.slice(splitHard));
    expect(differencesOf(splitCases.split.slice(splitHard), ours!, theirs!, 2)).toEqual([]);
  });

  (label === 'cpu' ? it.skip : it)('does not see what lies beyond the keys that count, be it NaN', () => {
    const { gradients } = run('splitNan', fused);
    expect(differencesOf(splitCases.splitNan, gradients, first.gradients.slice(-gradients.length), 1 / 100)).toEqual(
      [],
    );
    for (const x of gradients.flat()) expect(x!.every(Number.isFinite)).toBe(true);
  });

  (label === 'cuda-emulated' ? it : it.skip)('gives the same in any schedule', () => {
    const schedules: Record<string, string>[] = [
      { SIMT_SEED: '3', SIMT_COMPLETION: 'random' },
      { SIMT_SEED: '4', SIMT_COMPLETION: 'eager', SIMT_WORKERS: '2' },
    ];
    const [one, other] = schedules.map((schedule) => run('splitFew', { ...fused, ...schedule }).gradients);
    expect(differencesOf(splitCases.splitFew, one!, other!, 1 / 100)).toEqual([]);
  });

  (label === 'cuda-emulated' ? it : it.skip)('is not taken unless it is asked for', () => {
    const { kernels } = run('splitNan', { HOPPER_ORDER: 'any', SIMT_STATS: '1' });
    expect(kernels.filter((line) => line.includes('Hopper'))).toEqual([]);
    expect(() => run('splitNan', { FLOWMAP_HOPPER: 'fast' })).toThrow(/FLOWMAP_HOPPER must be .*, got 'fast'/);
  });
});
