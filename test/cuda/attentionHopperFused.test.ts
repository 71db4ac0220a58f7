// The kernel that gives all gradients of attention on Hopper, of heads of up to 64: errors against float64 beside those of
// eager 16-bit mathematics, and differences from the pair of kernels; what must not be seen; other schedules.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeOnDevices } from '../support/devices';
import { basicFusedCases, fusedCases } from './support/attentionHopperFusedCases';
import { differencesOf, excessesOf, runCases } from './support/attentionHopperRuns';

const fused = { FLOWMAP_HOPPER: 'fused', HOPPER_ORDER: 'any' };

describeOnDevices("attention's backward on Hopper in one kernel, of narrow heads", (_, label) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flowmap-hopper-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const run = (which: keyof typeof fusedCases, env: Record<string, string>) =>
    runCases(folder, which, fusedCases[which], env);

  let first: ReturnType<typeof run>;
  (label === 'cpu' ? it.skip : it)('errs no more than eager mathematics', () => {
    first = run('fused', { ...fused, SIMT_STATS: '1' });
    const cases = fusedCases.fused.slice(0, label === 'cuda-emulated' ? basicFusedCases : undefined);
    expect(excessesOf(cases, first.gradients)).toEqual([]);
  });

  (label === 'cuda-emulated' ? it : it.skip)('runs that kernel, and one for what it needs, for each type', () => {
    const names = first.kernels.map((line) => /attention\w+Kernel<[^,]+/.exec(line)![0]);
    const expected = ['__nv_bfloat16', '__half'].flatMap((type) =>
      ['Dq', 'Fused'].map((each) => `attention${each}HopperKernel<${type}`),
    );
    expect([...new Set(names)].sort()).toEqual(expected.sort());
  });

  (label === 'cpu' ? it.skip : it)('differs from the pair of kernels in roundings alone', () => {
    const pair = run('fused', { FLOWMAP_HOPPER: 'pair', SIMT_STATS: '1' });
    expect(pair.kernels.filter((line) => line.includes('Fused'))).toEqual([]);
    expect(differencesOf(fusedCases.fused, first.gradients, pair.gradients, 1 / 4)).toEqual([]);
  });

  (label === 'cpu' ? it.skip : it)('does not see what lies beyond the keys that count, be it NaN', () => {
    const { gradients } = run('fusedNan', fused);
    expect(differencesOf(fusedCases.fusedNan, gradients, first.gradients.slice(-gradients.length), 1 / 100)).toEqual(
      [],
    );
    for (const x of gradients.flat()) expect(x!.every(Number.isFinite)).toBe(true);
  });

  (label === 'cuda-emulated' ? it : it.skip)('gives the same in any schedule', () => {
    const { gradients } = run('fusedFew', fused);
    const schedules: Record<string, string>[] = [
      { SIMT_SEED: '3', SIMT_COMPLETION: 'random' },
      { SIMT_SEED: '4', SIMT_COMPLETION: 'eager', SIMT_WORKERS: '2' },
    ];
    for (const schedule of schedules) {
      const other = run('fusedFew', { ...fused, ...schedule });
      expect(differencesOf(fusedCases.fusedFew, other.gradients, gradients, 1 / 100)).toEqual([]);
    }
  });

  (label === 'cuda-emulated' ? it : it.skip)('is not taken unless it is asked for', () => {
    for (const env of [{ HOPPER_ORDER: 'any' }, { FLOWMAP_HOPPER: 'fused' }] as Record<string, string>[]) {
      const { kernels } = run('fusedNan', { ...env, SIMT_STATS: '1' });
      expect(kernels.filter((line) => line.includes('FusedHopper'))).toEqual([]);
    }
    expect(() => run('fusedNan', { FLOWMAP_HOPPER: 'fast' })).toThrow(/FLOWMAP_HOPPER must be .*, got 'fast'/);
  });
});
