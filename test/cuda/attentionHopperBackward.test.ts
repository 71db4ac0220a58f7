// The pair of kernels of attention's backward for Hopper, on such a GPU, emulated or not: errors against float64 beside those of
// eager 16-bit mathematics, and differences from mma.sync's kernels; what must not be seen; other schedules.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeOnDevices } from '../support/devices';
import { basicCases, hopperCases } from './support/attentionHopperBackwardCases';
import { differencesOf, excessesOf, runCases } from './support/attentionHopperRuns';

describeOnDevices("attention's backward on Hopper", (_, label) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flowmap-hopper-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const run = (which: keyof typeof hopperCases, env: Record<string, string> = {}) =>
    runCases(folder, which, hopperCases[which], { FLOWMAP_HOPPER: 'pair', ...env });

  let first: ReturnType<typeof run>;
  (label === 'cpu' ? it.skip : it)('errs no more than eager mathematics', () => {
    first = run('all', { SIMT_STATS: '1' });
    const compared = hopperCases.all.slice(0, label === 'cuda-emulated' ? basicCases : undefined);
    expect(excessesOf(compared, first.gradients)).toEqual([]);
  });

  (label === 'cpu' ? it.skip : it)('does not see what lies beyond the keys that count, be it NaN', () => {
    const { bytes, gradients } = run('nan');
    expect(first.bytes.subarray(-bytes.length).equals(bytes)).toBe(true);
    for (const x of gradients.flat()) expect(x!.every(Number.isFinite)).toBe(true);
  });

  (label === 'cuda-emulated' ? it : it.skip)("differs from mma.sync's kernels in roundings alone", () => {
    expect(first.kernels.filter((line) => !line.includes('HopperKernel'))).toEqual([]);
    for (const dtype of ['__nv_bfloat16', '__half']) {
      // Three widths, three sets of tangents, two kernels; those of keys wider than 64 with all tangents are two.
      expect(first.kernels.filter((line) => line.includes(`Kernel<${dtype}`))).toHaveLength(20);
    }
    const other = run('all', { FLOWMAP_HOPPER: 'off', SIMT_STATS: '1' });
    expect(other.kernels.filter((line) => line.includes('HopperKernel'))).toEqual([]);
    expect(differencesOf(hopperCases.all, first.gradients, other.gradients)).toEqual([]);
  });

  (label === 'cuda-emulated' ? it : it.skip)('has the same bits in any schedule', () => {
    const { bytes } = run('few');
    const schedules: Record<string, string>[] = [
      { SIMT_SEED: '3', SIMT_COMPLETION: 'random' },
      { SIMT_SEED: '4', SIMT_COMPLETION: 'eager', SIMT_WORKERS: '2' },
    ];
    for (const schedule of schedules) expect(run('few', schedule).bytes.equals(bytes)).toBe(true);
  });

  (label === 'cuda' ? it : it.skip)('has the same bits in 30 runs', () => {
    const { bytes } = run('few');
    for (let i = 1; i < 30; i++) expect(run('few').bytes.equals(bytes)).toBe(true);
  });
});
