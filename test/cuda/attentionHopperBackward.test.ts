// The pair of kernels of attention's backward for Hopper, on such a GPU, emulated or not: errors against float64 beside those of
// eager 16-bit mathematics, and differences from mma.sync's kernels; what must not be seen; other schedules.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeOnDevices } from '../support/devices';
import {
  digestsOf,
  gradientExcesses,
  gradientNames,
  gradientRoom,
  relativeNorm,
  worst,
} from '../support/fusedAttention';
import { basicCases, type HopperCase, hopperCases, shapesOfCase } from './support/attentionHopperBackwardCases';

const counts = (each: HopperCase) => shapesOfCase(each).map((shape) => shape.reduce((a, b) => a * b, 1));

describeOnDevices("attention's backward on Hopper", (_, label) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flowmap-hopper-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** The gradients of each case, those that are not wanted null; their bits, and which kernels ran. */
  function run(which: keyof typeof hopperCases, env: Record<string, string> = {}) {
    const file = join(folder, 'results');
    const { stderr } = digestsOf('attentionHopperBackward.ts', {
      SIMT_SM: '90',
      FLOWMAP_HOPPER: 'pair',
      ...env,
      HOPPER_CASES: which,
      HOPPER_RESULTS: file,
    });
    const bytes = readFileSync(file);
    const values = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    let at = 0;
    const gradients = hopperCases[which].map((each) =>
      each.needs.map((needed, i) => {
        if (!needed) return null;
        at += counts(each)[i]!;
        return values.slice(at - counts(each)[i]!, at);
      }),
    );
    expect(at).toBe(values.length);
    const kernels = stderr.split('\n').filter((line) => /attentionD(q|kv)\w*Kernel/.test(line));
    return { bytes, gradients, kernels };
  }

  let first: ReturnType<typeof run>;
  (label === 'cpu' ? it.skip : it)('errs no more than eager mathematics', () => {
    first = run('all', { SIMT_STATS: '1' });
    const excesses = hopperCases.all.flatMap(({ title, operands, sizes, dtype, masks }, i) => {
      if (label === 'cuda-emulated' && i >= basicCases) return [];
      const zeroed = shapesOfCase(hopperCases.all[i]!).map(
        (shape, x) => operands[x] ?? new Float64Array(shape.reduce((a, b) => a * b, 1)),
      );
      return gradientExcesses(first.gradients[i]!, zeroed, sizes, dtype, masks).map((each) => ({ title, ...each }));
    });
    expect(excesses).toEqual([]);
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
    for (const [i, { title, dtype }] of hopperCases.all.entries()) {
      for (const [j, x] of first.gradients[i]!.entries()) {
        if (!x) continue;
        const theirs = other.gradients[i]![j]!;
        const right = worst(x, theirs) <= 1e-5 || relativeNorm(x, theirs) <= gradientRoom[dtype] / 4;
        expect({ title, name: gradientNames[j], right }).toMatchObject({ right: true });
      }
    }
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
