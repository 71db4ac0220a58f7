// The kernel of attention's backward for Hopper that has a head in a cluster of blocks, on such a GPU, emulated or not:
// errors against float64, differences from the pair of kernels; what must not be seen; other schedules.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeOnDevices } from '../support/devices';
import { clusterCases, isQuick } from './support/attentionHopperClusterCases';
import type { HopperCase } from './support/attentionHopperMakers';
import { differencesOf, excessesOf, runCases } from './support/attentionHopperRuns';

describeOnDevices("attention's backward in clusters on Hopper", (_, label) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flowmap-clusters-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const run = (which: keyof typeof clusterCases, env: Record<string, string> = {}) =>
    runCases(folder, which, clusterCases[which], env);

  let first: ReturnType<typeof run>;
  (label === 'cpu' ? it.skip : it)('errs no more than eager mathematics', () => {
    first = run('clusters', { SIMT_STATS: '1' });
    const compared = (x: HopperCase) => label === 'cuda' || isQuick(x);
    const gradients = first.gradients.filter((_, i) => compared(clusterCases.clusters[i]!));
    expect(excessesOf(clusterCases.clusters.filter(compared), gradients)).toEqual([]);
  });

  (label === 'cpu' ? it.skip : it)('does not see what lies beyond the keys that count, be it NaN', () => {
    const { bytes, gradients } = run('clustersNan');
    expect(first.bytes.subarray(-bytes.length).equals(bytes)).toBe(true);
    for (const x of gradients.flat()) expect(x!.every(Number.isFinite)).toBe(true);
  });

  (label === 'cuda-emulated' ? it : it.skip)('differs from the pair of kernels in roundings alone', () => {
    const names = (kernels: string[]) => kernels.map((line) => /attention\w*Kernel<\w+/.exec(line)![0]).sort();
    const dtypes = ['__half', '__nv_bfloat16'];
    expect(names(first.kernels)).toEqual(dtypes.map((dtype) => `attentionClusterHopperKernel<${dtype}`));
    const pair = run('clusters', { FLOWMAP_HOPPER: 'pair', SIMT_STATS: '1' });
    expect(names(pair.kernels)).toEqual(
      ['Dkv', 'Dq'].flatMap((which) => dtypes.map((dtype) => `attention${which}HopperKernel<${dtype}`)),
    );
    expect(differencesOf(clusterCases.clusters, first.gradients, pair.gradients)).toEqual([]);
  });

  (label === 'cuda-emulated' ? it : it.skip)('has the same bits in any schedule', () => {
    const { bytes } = run('clustersFew');
    const schedules: Record<string, string>[] = [
      { SIMT_SEED: '3', SIMT_COMPLETION: 'random' },
      { SIMT_SEED: '4', SIMT_COMPLETION: 'eager', SIMT_WORKERS: '2' },
    ];
    for (const schedule of schedules) expect(run('clustersFew', schedule).bytes.equals(bytes)).toBe(true);
  });

  (label === 'cuda' ? it : it.skip)('has the same bits in 30 runs', () => {
    const { bytes } = run('clustersFew');
    for (let i = 1; i < 30; i++) expect(run('clustersFew').bytes.equals(bytes)).toBe(true);
  });

  (label === 'cuda-emulated' ? it : it.skip)('is chosen by FLOWMAP_HOPPER, which may say no other word', () => {
    expect(() => run('clustersFew', { FLOWMAP_HOPPER: 'none' })).toThrow(
      "FLOWMAP_HOPPER must be 'pair', 'fused', 'off' or unset, got 'none'",
    );
  });
});
