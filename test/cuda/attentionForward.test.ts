// The fused forward of attention with its tangent, on 16-bit data: errors against float64 beside those of eager 16-bit
// mathematics, what must hold to the bit, what must not be seen, and the emulator's count of bank conflicts.
import type { Tensor } from '../../lib';
import type { AttentionMasks, AttentionSizes, Narrow } from '../support/attentionOracle';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import {
  adversaries,
  digestsOf,
  makeAdversarial,
  masked,
  narrow,
  operandsOf,
  shapesOf,
  sizesOf,
  worst,
} from '../support/fusedAttention';
import { all, expectForward, forwardOf, type Presence } from '../support/fusedForward';

describeOnDevices('fused attention with its tangent', (device, label) => {
  const { tensor } = on(device);
  const run = (
    operands: readonly Float64Array[],
    sizes: AttentionSizes,
    dtype: Narrow,
    masks: AttentionMasks = {},
    present: Presence = all,
    plain = false,
  ) => forwardOf(device, { operands, sizes, dtype, masks, present, plain });

  function check(sizes: AttentionSizes, dtype: Narrow, masks: AttentionMasks = {}, given = operandsOf(sizes, dtype)) {
    expectForward(run(given, sizes, dtype, masks), { operands: given, sizes, dtype, masks });
  }

  const dims = [8, 24, 32, 40, 64, 72, 80, 96, 104, 128];
  const wide = [136, 160, 192, 200, 256];
  it.each(
    (
      [
        [1, 1],
        [2, 17],
        [15, 16],
        [16, 31],
        [17, 33],
        [31, 64],
        [33, 2],
        [63, 65],
        [64, 15],
        [65, 63],
        [113, 32],
        [127, 1],
        [128, 70],
        [129, 33],
        [5, 257],
        [257, 5],
        [255, 256],
        ...(label === 'cuda-emulated' ? [] : ([[513, 500]] as const)),
      ] as const
    ).map(([queries, keys], i) => [queries, keys, dims[(3 * i) % 10]!, narrow[i % 2]!] as const),
  )('errs no more than eager mathematics: %i queries, %i keys, %i wide, %s', (queries, keys, dim, dtype) => {
    check(sizesOf(queries, keys, dim), dtype);
  });

  it.each(dims)('errs no more than eager mathematics %i wide, in both types', (dim) => {
    for (const dtype of narrow) check(sizesOf(20, 75, dim), dtype);
  });

  it.each(
    wide.flatMap((dim, i) => [[70, 20, dim, narrow[i % 2]!] as const, [9, 45, dim, narrow[(i + 1) % 2]!] as const]),
  )('errs no more than eager mathematics: %i queries, %i keys, %i wide, %s', (queries, keys, dim, dtype) =>
    check(sizesOf(queries, keys, dim), dtype),
  );

  it.each([...masked, ['no key at all', sizesOf(17, 0, 64), {}] as const])(
    'errs no more than eager mathematics with %s',
    (_, sizes, masks) => {
      for (const dtype of narrow) check(sizes, dtype, masks, operandsOf(sizes, dtype, masks.layout));
    },
  );

  it.each(adversaries)('errs no more than eager mathematics on adversarial data: %s', (adversary) => {
    for (const [dtype, dim] of [
      ['bfloat16', 64],
      ['float16', 72],
    ] as const) {
      const sizes = sizesOf(20, 90, dim);
      const given = operandsOf(sizes, dtype);
      makeAdversarial(adversary, given, dtype, dim, 8);
      check(sizes, dtype, {}, given);
    }
  });

  it.each([...dims.filter((_, i) => i % 2 === 0), 192, 256])(
    'gives the same bits with tangents of zero as without, %i wide',
    (dim) => {
      const sizes = sizesOf(37, 75, dim);
      const given = operandsOf(sizes, 'bfloat16').map((x, i) => (i < 3 ? x : x.map(() => 0)));
      const masks = { causal: true };
      const without = run(given, sizes, 'bfloat16', masks, all, true);
      const results = [
        run(given, sizes, 'bfloat16', masks),
        run(given, sizes, 'bfloat16', masks, [true, false, false]),
        run(given, sizes, 'bfloat16', masks, [false, false, false]),
      ];
      for (const { o, to, lse, mu } of results) {
        expect(worst(o, without.o)).toBe(0);
        expect(worst(lse, without.lse)).toBe(0);
        expect([...to, ...mu].filter((x) => x !== 0)).toEqual([]);
      }
    },
  );

  it.each([64, 200])('takes a tangent that is absent for zeros, to the bit, %i wide', (dim) => {
    const sizes = sizesOf(20, dim === 64 ? 45 : 20, dim, { heads: 2, keyHeads: 1 });
    const given = operandsOf(sizes, 'bfloat16');
    for (let bits = 0; bits < 8; bits++) {
      const present: Presence = [(bits & 1) !== 0, (bits & 2) !== 0, (bits & 4) !== 0];
      const zeroed = given.map((x, i) => (i < 3 || present[i - 3] ? x : x.map(() => 0)));
      const [got, expected] = [run(given, sizes, 'bfloat16', {}, present), run(zeroed, sizes, 'bfloat16')];
      for (const name of ['o', 'to', 'lse', 'mu'] as const) expect(worst(got[name], expected[name])).toBe(0);
    }
  });

  it('does not see what lies beyond the keys that count, be it NaN', () => {
    const sizes = sizesOf(35, 70, 72, { batch: 2 });
    const given = operandsOf(sizes, 'bfloat16');
    const lengths = [37, 64];
    const filled = (fill: number) =>
      given.map((x, i) =>
        i % 3 === 0
          ? x
          : x.map((value, at) => (Math.floor(at / 72) % 70 < lengths[Math.floor(at / 5040)]! ? value : fill)),
      );
    for (const causal of [false, true]) {
      const [a, b] = [Number.NaN, 0].map((fill) => run(filled(fill), sizes, 'bfloat16', { lengths, causal }));
      expect(a).toEqual(b);
      expect([...a!.o, ...a!.to].every(Number.isFinite)).toBe(true);
    }
  });

  it('shows NaN in the rows that see one, and in no others', () => {
    const sizes = sizesOf(40, 40, 64);
    const given = operandsOf(sizes, 'float16');
    given[0]![17 * 64 + 5] = Number.NaN;
    const rowsWith = (x: Float64Array) => [
      ...new Set([...x.keys()].filter((i) => Number.isNaN(x[i])).map((i) => i >> 6)),
    ];
    const one = run(given, sizes, 'float16');
    expect([rowsWith(one.o), rowsWith(one.to)]).toEqual([[17], [17]]);
    given[1]![3 * 64] = Number.NaN;
    const every = run(given, sizes, 'float16');
    expect([rowsWith(every.o).length, rowsWith(every.to).length]).toEqual([40, 40]);
    expect(rowsWith(run(given, sizes, 'float16', {}, [false, false, false]).to)).toHaveLength(40);
  });

  it('names a number of keys that is none, and makes nothing that looks right of it', () => {
    const { attention, ones } = on(device);
    const [q, k] = [ones([2, 1, 3, 8], { dtype: 'bfloat16' }), ones([2, 1, 4, 8], { dtype: 'bfloat16' })];
    const out = attention(q, k, k, { keyLengths: tensor(Int32Array.of(4, 5)) });
    expect(() => out.dataSync()).toThrow('attention: keyLengths must be in [0, 4], got 5 in row 1');
  });

  (label === 'cuda-emulated' ? it.skip : it)('takes more heads than a grid is high', () => {
    const { attention, slice } = on(device);
    const sizes = sizesOf(1, 2, 8, { batch: 33000, heads: 2 });
    const [q, k, v] = operandsOf(sizes, 'bfloat16')
      .slice(0, 3)
      .map((x, i) => tensor(x, { shape: shapesOf(sizes)[i]!, dtype: 'bfloat16' })) as [Tensor, Tensor, Tensor];
    const last = (x: Tensor) => slice(x, [32990, 0, 0, 0], [33000, 2, x.shape[2]!, 8]);
    const few = attention(last(q), last(k), last(v));
    expect([...last(attention(q, k, v)).dataSync()]).toEqual([...few.dataSync()]);
  });
});

const emulated = process.env.FLOWMAP_CUDA === 'emulated';
(emulated ? describe : describe.skip)('the fused forward on the emulator', () => {
  const results = (env: Record<string, string>) => digestsOf('attentionForwardBits.ts', env);

  it('gives the same bits on GPUs with more and less shared memory, in any schedule, without bank conflicts', () => {
    const first = results({ SIMT_SM: '80', SIMT_STATS: '1' });
    const banks = first.stderr.split('\n').filter((line) => line.includes('attentionForwardKernel'));
    expect(banks.length).toBeGreaterThan(10);
    // Where QKNorm walks over rows of 72 in tiles of 80 some conflict.
    expect(banks.filter((line) => !/ldmatrix 1\.00 passes per ideal, ld\/st\.shared 1\.0[0-5]$/.test(line))).toEqual(
      [],
    );
    const small = results({ SIMT_SM: '86', SIMT_STATS: '1' });
    expect(small.bits).toEqual(first.bits);
    expect(small.stderr).toContain('ForwardTile<128, 4, 1, 32>');
    expect(small.stderr).toContain('WideForwardTile<256, 128, 4, 1>');
    // Of the shared memory that Hopper has.
    const large = results({ SIMT_SM: '100', SIMT_SEED: '3', SIMT_COMPLETION: 'random', SIMT_STATS: '1' });
    expect(large.bits).toEqual(first.bits);
    expect(large.stderr).toContain('WideForwardTile<256, 128, 8, 2>, (flowmap::cuda::Tangents)2');
  });
});
