// The forward of attention by TMA and wgmma, on an emulated Hopper GPU or a real GPU: errors against float64 beside those
// of eager 16-bit mathematics, what must hold to the bit, and the same bits in other schedules.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AttentionValues } from '../support/attentionOracle';
import { describeOnDevices } from '../support/devices';
import { digestsOf, worst } from '../support/fusedAttention';
import { expectForward } from '../support/fusedForward';
import { type HopperCase, hopperCases } from './support/attentionHopperCases';

describeOnDevices('attention on Hopper', (_, label) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flowmap-hopper-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** The bits of one process, and which kernels it ran. */
  function run(which: keyof typeof hopperCases, env: Record<string, string> = {}) {
    const file = join(folder, 'results');
    const asked = { SIMT_SM: '90', SIMT_STATS: '1', ...env, ATTENTION_CASES: which, ATTENTION_RESULTS: file };
    const { stderr } = digestsOf('attentionHopper.ts', asked);
    if (label === 'cuda-emulated') {
      const kernels = asked.SIMT_SM === '90' && !env.FLOWMAP_HOPPER ? 'attentionForwardHopper' : 'attentionForward';
      const ran = [...stderr.matchAll(/::(attention\w+)Kernel</g)].map(([, name]) => name);
      expect(new Set(ran)).toEqual(new Set([kernels]));
    }
    return readFileSync(file);
  }

  const firsts = new Map<string, Buffer>();
  function firstOf(which: keyof typeof hopperCases): Buffer {
    const found = firsts.get(which) ?? run(which);
    firsts.set(which, found);
    return found;
  }

  function resultsOf(cases: readonly HopperCase[], bytes: Buffer): Map<string, AttentionValues> {
    const numbers = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    let at = 0;
    const take = (length: number) => {
      at += length;
      return numbers.slice(at - length, at);
    };
    const results = new Map(
      cases.map(({ title, sizes: { batch, heads, queries, dim }, plain }) => {
        const rows = batch * heads * queries;
        const moving = plain ? 0 : 1;
        const values = { o: take(rows * dim), to: take(moving * rows * dim), lse: take(rows), mu: take(moving * rows) };
        return [title, values] as const;
      }),
    );
    expect([at, results.size]).toEqual([numbers.length, cases.length]);
    return results;
  }

  const onDevices = label === 'cpu' ? it.skip : it;

  onDevices.each(['shapes', 'options', 'adversarial'] as const)('%s: errs no more than eager mathematics', (which) => {
    const cases = hopperCases[which]();
    const results = resultsOf(cases, firstOf(which));
    for (const each of cases) expectForward(results.get(each.title)!, each);
  });

  // Absent tangents are zeros, and leave the value as it is; what lies beyond the keys that count is not seen.
  onDevices.each(['tangents', 'unseen'] as const)('%s: the same to the bit', (which) => {
    const cases = hopperCases[which]();
    const results = resultsOf(cases, run(which));
    for (const { title, same, plain } of cases) {
      const [got, other] = [results.get(title)!, same && results.get(same)];
      for (const name of ['o', 'to', 'lse', 'mu'] as const) {
        const finite = worst(got[name], new Float64Array(got[name].length)) < Number.POSITIVE_INFINITY;
        const off = other && got[name].length > 0 ? worst(got[name], other[name]) : 0;
        expect({ title, name, finite, off, plain }).toEqual({ title, name, finite: true, off: 0, plain });
      }
    }
  });

  onDevices('the same bits in every run and schedule', () => {
    const first = firstOf('options');
    const schedules = [
      { SIMT_SEED: '3', SIMT_COMPLETION: 'random' },
      { SIMT_SEED: '4', SIMT_COMPLETION: 'eager', SIMT_WORKERS: '2' },
    ];
    for (const schedule of label === 'cuda-emulated' ? schedules : [{}]) {
      expect(run('options', schedule).equals(first)).toBe(true);
    }
  });

  (label === 'cuda-emulated' ? it : it.skip)('other GPUs, and FLOWMAP_HOPPER=off, take the kernels of mma.sync', () => {
    const first = run('adversarial', { SIMT_SM: '80' });
    for (const env of [{ SIMT_SM: '100' }, { FLOWMAP_HOPPER: 'off' }] as Record<string, string>[]) {
      expect(run('adversarial', env).equals(first)).toBe(true);
    }
  });
});
