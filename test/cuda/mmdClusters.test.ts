// Groups that a cluster of blocks shares, on GPUs that have clusters, emulated or not: against brute force in double
// precision, against the kernels that cut features into parts, and in other schedules.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tensor } from '../../lib';
import { describeOnDevices } from '../support/devices';
import { digestsOf } from '../support/fusedAttention';
import { allowed, bruteForce } from '../support/mmdOracle';
import { type ClusterCase, clusterCases } from './support/mmdClusterCases';

const norm = (values: Float64Array) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));
const difference = (a: Float64Array, b: Float64Array) => norm(a.map((v, i) => v - b[i]!));

type Results = { value: Float64Array; gx: Float64Array; gy: Float64Array }[];

describeOnDevices('mmd of groups that a cluster of blocks shares', (_, label) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flowmap-mmd-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** The bits of one process, and which kernels it ran. */
  function run(cases: keyof typeof clusterCases, env: Record<string, string>) {
    const file = join(folder, 'results');
    const { stderr } = digestsOf('mmdClusters.ts', { ...env, MMD_CASES: cases, MMD_RESULTS: file });
    return { bytes: readFileSync(file), stderr };
  }

  const firsts = new Map<string, ReturnType<typeof run>>();
  function firstOf(which: keyof typeof clusterCases, sm: string) {
    const found = firsts.get(which) ?? run(which, { SIMT_SM: sm, SIMT_STATS: '1' });
    firsts.set(which, found);
    return found;
  }

  function resultsOf(cases: ClusterCase[], { bytes }: { bytes: Buffer }): Results {
    const all = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    let at = 0;
    const take = (length: number) => {
      at += length;
      return all.slice(at - length, at);
    };
    const results = cases.map(({ given }) => ({
      value: take(given.shape[0]),
      gx: take(given.x.length),
      gy: take(given.y.length),
    }));
    expect(at).toBe(all.length);
    return results;
  }

  function expectAgreement(cases: ClusterCase[], results: Results): void {
    for (const [i, { title, dtype, given, options }] of cases.entries()) {
      const stored = (values: Float64Array) =>
        Float64Array.from(tensor(values, { dtype, device: 'cpu' }).dataSync() as ArrayLike<number>, Number);
      const expected = bruteForce({ ...given, x: stored(given.x), y: stored(given.y) }, options);
      const got = results[i]!;
      for (const [group, v] of expected.value.entries()) {
        const error = Math.abs(got.value[group]! - v) / Math.max(1, Math.abs(v));
        expect({ title, right: error <= allowed[dtype].value, error }).toMatchObject({ right: true });
      }
      for (const name of ['gx', 'gy'] as const) {
        // float16 holds small gradients in few bits.
        const floor = dtype === 'float16' ? 2 ** -25 * Math.sqrt(expected[name].length) : 0;
        const error = difference(got[name], expected[name]);
        const most = allowed[dtype].gradient * norm(expected[name]) + floor;
        expect({ title, name, right: error <= most, error, most }).toMatchObject({ right: true });
      }
    }
  }

  // The same shared memory, or less, with clusters and without.
  const gpus = [
    ['large', '90', '80'],
    ['small', '120', '86'],
  ] as const;

  (label === 'cpu' ? it.skip : it).each(gpus)('%s groups agree with brute force, the same bits again', (which, sm) => {
    const [cases, first] = [clusterCases[which](), firstOf(which, sm)];
    expectAgreement(cases, resultsOf(cases, first));
    expect(run(which, { SIMT_SM: sm }).bytes.equals(first.bytes)).toBe(true);
  });

  (label === 'cuda-emulated' ? it : it.skip).each(gpus)(
    '%s groups have the same bits in any schedule, and agree with the kernels that take several passes',
    (which, sm, without) => {
      const cases = clusterCases[which]();
      const first = firstOf(which, sm);
      expect(first.stderr).toContain('mmdClusterGroupsKernel');
      expect(first.stderr).not.toMatch(/mmdMeasureKernel|mmdKernel/);
      const schedules: Record<string, string>[] = [
        { SIMT_SEED: '3', SIMT_COMPLETION: 'random' },
        { SIMT_SEED: '4', SIMT_COMPLETION: 'eager', SIMT_WORKERS: '2' },
      ];
      for (const schedule of which === 'small' ? schedules : schedules.slice(0, 1)) {
        expect(run(which, { SIMT_SM: sm, ...schedule }).bytes.equals(first.bytes)).toBe(true);
      }

      const passes = run(which, { SIMT_SM: without, SIMT_STATS: '1' });
      expect(passes.stderr).toContain('mmdMeasureKernel');
      expect(passes.stderr).not.toContain('mmdClusterGroupsKernel');
      const results = resultsOf(cases, first);
      for (const [i, other] of resultsOf(cases, passes).entries()) {
        const { title, dtype } = cases[i]!;
        const [mine, tolerance] = [results[i]!, allowed[dtype]];
        for (const [group, v] of other.value.entries()) {
          const error = Math.abs(mine.value[group]! - v);
          expect({ title, right: error <= tolerance.value * Math.max(1, Math.abs(v)) }).toEqual({ title, right: true });
        }
        for (const name of ['gx', 'gy'] as const) {
          const right = difference(mine[name], other[name]) <= tolerance.gradient * norm(other[name]);
          expect({ title, name, right }).toEqual({ title, name, right: true });
        }
      }
    },
  );
});
