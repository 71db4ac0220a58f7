// The fused backward of attention with its tangent, on 16-bit data: errors against float64 beside those of eager 16-bit
// mathematics, what must hold by the mathematics or to the bit, and what must not be seen.
import { Tensor } from '../../lib';
import { native } from '../../lib/native';
import type { AttentionMasks, AttentionSizes, Narrow } from '../support/attentionOracle';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import {
  adversaries,
  digestsOf,
  epsilon,
  gradientExcesses,
  gradientNames,
  gradientRoom,
  makeAdversarial,
  masked,
  narrow,
  operandsOf,
  relativeNorm,
  settingsOf,
  shapesOf,
  sizesOf,
  worst,
} from '../support/fusedAttention';

/** Which of tq, tk, tv are given; which of the cotangents g, h; and which of gq, gk, gv, gtq, gtk, gtv are wanted. */
interface Given {
  tangents?: readonly boolean[];
  cotangents?: readonly [boolean, boolean];
  needs?: readonly number[];
  deterministic?: boolean;
}
const zerosOf = (x: Float64Array) => new Float64Array(x.length);

describeOnDevices('the fused backward of attention with its tangent', (device, label) => {
  const { tensor } = on(device);
  const numbers = (handle: unknown) =>
    Float64Array.from(new Tensor(handle as never).dataSync() as ArrayLike<number>, Number);

  function run(
    operands: readonly Float64Array[],
    sizes: AttentionSizes,
    dtype: Narrow,
    masks: AttentionMasks = {},
    {
      tangents = [true, true, true],
      cotangents = [true, true],
      needs = [1, 1, 1, 1, 1, 1],
      deterministic = true,
    }: Given = {},
  ): Float64Array[] {
    const { layout, lengths } = masks;
    const shapes = shapesOf(sizes, layout);
    const given = [true, true, true, ...tangents, ...cotangents];
    const [q, k, v, tq, tk, tv, g, h] = operands.map((x, i) =>
      given[i] ? tensor(x, { shape: shapes[i]!, dtype })._handle : null,
    ) as never[];
    const masking = settingsOf(sizes.dim, masks, lengths ? tensor(Int32Array.from(lengths)) : null);
    const moving = tangents.some(Boolean);
    const [o, to, lse, mu] = moving
      ? native.attentionJvp(q!, k!, v!, tq!, tk!, tv!, ...masking)
      : (([a, b]) => [a, null, b, null])(native.attention(q!, k!, v!, ...masking) as unknown as never[]);
    const results = native.attentionJvpVjp(
      ...([
        q,
        k,
        v,
        tq,
        tk,
        tv,
        o,
        to,
        lse,
        mu,
        g,
        h,
        ...masking,
        deterministic,
        [...needs, 0, 0],
      ] as unknown as Parameters<typeof native.attentionJvpVjp>),
    );
    return (results as unknown[]).slice(0, 6).map((x) => (x ? numbers(x) : new Float64Array(0)));
  }

  // The CPU sums by parts that depend on what is absent.
  function expectSame(got: readonly Float64Array[], expected: readonly Float64Array[]) {
    if (label !== 'cpu') return expect(got).toEqual(expected);
    expect(got.map((x) => x.length)).toEqual(expected.map((x) => x.length));
    for (const [i, x] of expected.entries())
      expect(worst(got[i]!, x)).toBeLessThanOrEqual(2 * epsilon.bfloat16 * worst(zerosOf(x), x));
  }

  function check(sizes: AttentionSizes, dtype: Narrow, masks: AttentionMasks = {}, operands?: Float64Array[]) {
    const all = operands ?? operandsOf(sizes, dtype, masks.layout);
    const excesses = gradientExcesses(run(all, sizes, dtype, masks), all, sizes, dtype, masks);
    expect(excesses).toEqual([]);
  }

  it.each(
    (
      [
        [1, 1, 8],
        [2, 17, 24],
        [15, 16, 64],
        [33, 2, 128],
        [31, 64, 32],
        [63, 65, 64],
        [65, 63, 96],
        [128, 70, 64],
        [5, 129, 72],
        [129, 5, 128],
        ...(label === 'cuda-emulated' ? [] : ([[255, 256, 40]] as const)),
      ] as const
    ).map(([queries, keys, dim], i) => [queries, keys, dim, narrow[i % 2]!] as const),
  )('errs no more than eager mathematics: %i queries, %i keys, %i wide, %s', (queries, keys, dim, dtype) => {
    check(sizesOf(queries, keys, dim), dtype);
  });

  it.each([8, 24, 32, 40, 64, 72, 80, 96, 104, 128].map((dim, i) => [dim, narrow[(i + 1) % 2]!] as const))(
    'errs no more than eager mathematics %i wide, %s',
    (dim, dtype) => check(sizesOf(20, 45, dim), dtype),
  );

  it.each([136, 160, 192, 200, 256].map((dim, i) => [dim, narrow[i % 2]!] as const))(
    'errs no more than eager mathematics %i wide, %s, with heads that share keys',
    (dim, dtype) => check(sizesOf(20, 35, dim, { heads: 2, keyHeads: 1 }), dtype),
  );

  it.each(masked)('errs no more than eager mathematics with %s', (_, sizes, masks) => {
    for (const dtype of label === 'cuda-emulated' ? narrow.slice(0, 1) : narrow) check(sizes, dtype, masks);
  });

  it.each(adversaries)('errs no more than eager mathematics on adversarial data: %s', (adversary) => {
    const [dtype, dim] = ['bfloat16', 64] as const;
    const sizes = sizesOf(20, 70, dim);
    const given = operandsOf(sizes, dtype);
    makeAdversarial(adversary, given, dtype, dim, 4);
    check(sizes, dtype, {}, given);
  });

  it.each([32, 72, 80, 128])('takes a cotangent g that is absent for zeros, to the bit, %i wide', (dim) => {
    const sizes = sizesOf(37, 45, dim);
    const operands = operandsOf(sizes, 'float16');
    for (const tangents of [
      [true, true, true],
      [true, false, false],
    ]) {
      const given = { tangents, needs: tangents[1] ? [1, 1, 1, 1, 1, 1] : [1, 1, 1, 1, 0, 0] };
      const zeroed = operands.map((x, i) => (i === 6 ? zerosOf(x) : x));
      const got = run(operands, sizes, 'float16', { causal: true }, { ...given, cotangents: [false, true] });
      expectSame(got, run(zeroed, sizes, 'float16', { causal: true }, given));
    }
  });

  it.each([64, 256])('takes tangents and cotangents that are absent for zeros, to the bit, %i wide', (dim) => {
    const sizes = sizesOf(20, dim === 64 ? 45 : 20, dim, { heads: 2, keyHeads: 1 });
    const operands = operandsOf(sizes, 'bfloat16');
    for (const [tangents, cotangents] of [
      [
        [true, false, false],
        [true, true],
      ],
      [
        [false, true, true],
        [true, true],
      ],
      [
        [false, false, false],
        [true, true],
      ],
      [
        [true, true, true],
        [false, true],
      ],
    ] as [boolean[], [boolean, boolean]][]) {
      const given = [true, true, true, ...tangents, ...cotangents];
      const zeroed = operands.map((x, i) => (given[i] ? x : zerosOf(x)));
      const got = run(operands, sizes, 'bfloat16', {}, { tangents, cotangents });
      expectSame(got, run(zeroed, sizes, 'bfloat16'));
    }
  });

  it.each([32, 64, 72, 88, 128, 144])('knows the tangent of the queries alone, with the same bits, %i wide', (dim) => {
    const sizes = sizesOf(37, 45, dim, { heads: 2, keyHeads: 1 });
    const operands = operandsOf(sizes, 'bfloat16').map((x, i) => (i === 4 || i === 5 ? zerosOf(x) : x));
    const masks = { causal: true };
    const expected = run(operands, sizes, 'bfloat16', masks);
    const none = new Float64Array(0);
    for (const needs of [
      [1, 1, 1, 1, 0, 0],
      [0, 1, 1, 0, 0, 0],
    ]) {
      const got = run(operands, sizes, 'bfloat16', masks, { tangents: [true, false, false], needs });
      expectSame(
        got,
        expected.map((x, i) => (needs[i] ? x : none)),
      );
    }
    const still = run(operands, sizes, 'bfloat16', masks, {
      tangents: [false, false, false],
      needs: [1, 1, 1, 1, 0, 0],
    });
    const zeroed = operands.map((x, i) => (i === 3 ? zerosOf(x) : x));
    expectSame(still.slice(0, 4), run(zeroed, sizes, 'bfloat16', masks).slice(0, 4));
  });

  it.each([32, 64, 72, 88, 128, 144])(
    'is the backward of the value alone where the tangent has no cotangent, %i wide',
    (dim) => {
      const sizes = sizesOf(37, 45, dim);
      const operands = operandsOf(sizes, 'bfloat16');
      const got = run(operands, sizes, 'bfloat16', { causal: true }, { cotangents: [true, false] });
      const zeroed = operands.map((x, i) => (i === 7 ? zerosOf(x) : x));
      const expected = run(zeroed, sizes, 'bfloat16', { causal: true });
      for (let i = 0; i < 6; i++)
        expect([gradientNames[i], worst(got[i]!, expected[i]!)]).toEqual([gradientNames[i], 0]);
      const still = run(
        operands,
        sizes,
        'bfloat16',
        { causal: true },
        { tangents: [false, false, false], cotangents: [true, false] },
      );
      expect(still).toEqual(got);
    },
  );

  it.each([32, 64, 80, 104, 208])(
    'gives tangents the gradients of values under their cotangent, to the bit, %i wide',
    (dim) => {
      const sizes = sizesOf(40, 70, dim);
      const operands = operandsOf(sizes, 'float16');
      const both = run(operands, sizes, 'float16');
      const swapped = operands.map((x, i) => (i === 6 ? operands[7]! : x));
      const plain = run(swapped, sizes, 'float16', {}, { cotangents: [true, false] });
      expect(both.slice(3)).toEqual(plain.slice(0, 3));
    },
  );

  it.each([
    ['32 wide', sizesOf(40, 70, 32), {}],
    ['64 wide, a causal mask, grouped heads', sizesOf(90, 70, 64, { heads: 4, keyHeads: 2 }), { causal: true }],
    ['72 wide, heads inside', sizesOf(20, 130, 72, { batch: 2, heads: 2 }), { layout: 'BSHD' }],
    ['96 wide, a number of keys per row', sizesOf(17, 70, 96, { batch: 3 }), { lengths: [70, 0, 37] }],
    ['128 wide', sizesOf(33, 65, 128), { causal: true }],
  ] as [string, AttentionSizes, AttentionMasks][])(
    'gives the same but for roundings where gradients of queries may be added up in any order: %s',
    (_, sizes, masks) => {
      const operands = operandsOf(sizes, 'bfloat16', masks.layout);
      const ordered = run(operands, sizes, 'bfloat16', masks);
      const subsets = [
        [1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
      ];
      for (const needs of subsets) {
        const got = run(operands, sizes, 'bfloat16', masks, { deterministic: false, needs });
        for (const [i, x] of ordered.entries()) {
          if (!needs[i]) expect(got[i]).toHaveLength(0);
          // Only those of the queries come by another way, but on Hopper, whose own kernels sum in order.
          else if (i % 3 !== 0 && label === 'cuda-emulated') expect(got[i]).toEqual(x);
          else expect(relativeNorm(got[i]!, x)).toBeLessThanOrEqual(gradientRoom.bfloat16);
        }
      }
    },
  );

  const runs = label === 'cuda' ? 100 : 3;
  it(`gives the same bits in ${runs} runs`, () => {
    const sizes = sizesOf(70, 90, 64, { heads: 4, keyHeads: 2 });
    const operands = operandsOf(sizes, 'bfloat16');
    const first = run(operands, sizes, 'bfloat16', { causal: true });
    for (let i = 1; i < runs; i++) expect(run(operands, sizes, 'bfloat16', { causal: true })).toEqual(first);
  });

  it('keeps keys that do not count, be they large, out of sums in any order', () => {
    const sizes = sizesOf(20, 70, 64);
    // The logarithms of the sums are so low that a weight of a key of zeros is infinite.
    const operands = operandsOf(sizes, 'bfloat16').map((x, i) =>
      i === 0 ? x.map(() => 4) : i === 1 ? x.map(() => -8) : x,
    );
    const given = { deterministic: false };
    const got = run(operands, sizes, 'bfloat16', { lengths: [37] }, given);
    expect(got.every((x) => x.every(Number.isFinite))).toBe(true);
    expect(relativeNorm(got[0]!, run(operands, sizes, 'bfloat16', { lengths: [37] })[0]!)).toBeLessThanOrEqual(2e-2);
  });

  it('gives gradients of all keys that sum to nothing but roundings', () => {
    const sizes = sizesOf(40, 70, 64);
    const got = run(operandsOf(sizes, 'float16'), sizes, 'float16');
    for (const i of [1, 4]) {
      for (let x = 0; x < 64; x++) {
        let [sum, magnitude] = [0, 0];
        for (let j = 0; j < 70; j++) {
          sum += got[i]![j * 64 + x]!;
          magnitude += Math.abs(got[i]![j * 64 + x]!);
        }
        expect(Math.abs(sum)).toBeLessThanOrEqual(2e-3 * magnitude);
      }
    }
  });

  it.each([64, 96, 136])('gives the gradients that are wanted the same bits as all, %i wide', (dim) => {
    const sizes = sizesOf(20, 45, dim);
    const operands = operandsOf(sizes, 'bfloat16');
    const all = run(operands, sizes, 'bfloat16');
    for (const needs of [
      [1, 0, 0, 0, 0, 0],
      [0, 0, 0, 1, 0, 0],
      [0, 1, 0, 0, 0, 0],
      [0, 0, 1, 0, 0, 1],
      [1, 0, 1, 0, 1, 0],
    ]) {
      const got = run(operands, sizes, 'bfloat16', {}, { needs });
      expect(got).toEqual(all.map((x, i) => (needs[i] ? x : new Float64Array(0))));
    }
  });

  it('does not see what lies beyond the keys that count, be it NaN, and gives it no gradient', () => {
    const sizes = sizesOf(35, 70, 72, { batch: 2 });
    const operands = operandsOf(sizes, 'bfloat16');
    const lengths = [37, 64];
    const counts = (at: number) => Math.floor(at / 72) % 70 < lengths[Math.floor(at / 5040)]!;
    const filled = (fill: number) =>
      operands.map((x, i) => (i % 3 === 0 || i > 5 ? x : x.map((value, at) => (counts(at) ? value : fill))));
    for (const causal of [false, true]) {
      const [a, b] = [Number.NaN, 0].map((fill) => run(filled(fill), sizes, 'bfloat16', { lengths, causal }));
      expect(a).toEqual(b);
      for (const i of [1, 2, 4, 5]) expect(a![i]!.filter((x, at) => !counts(at) && x !== 0)).toHaveLength(0);
      expect(a!.every((x) => x.every(Number.isFinite))).toBe(true);
    }
  });

  it('shows a query that is NaN in its own gradient and in those of all keys', () => {
    const sizes = sizesOf(40, 40, 64);
    const operands = operandsOf(sizes, 'float16');
    operands[0]![17 * 64 + 5] = Number.NaN;
    const [gq, gk, gv] = run(operands, sizes, 'float16');
    const rows = (x: Float64Array) => new Set([...x.keys()].filter((i) => Number.isNaN(x[i])).map((i) => i >> 6));
    expect([...rows(gq!)]).toEqual([17]);
    expect([rows(gk!).size, rows(gv!).size]).toEqual([40, 40]);
  });

  it('names a number of keys that is none', () => {
    const sizes = sizesOf(3, 4, 8, { batch: 2 });
    const operands = operandsOf(sizes, 'bfloat16');
    expect(() => run(operands, sizes, 'bfloat16', { lengths: [4, 5] })).toThrow(
      /^attention.*: keyLengths must be in \[0, 4\], got 5 in row 1/,
    );
  });

  (label === 'cuda' ? it : it.skip)('takes more heads than a grid is high', () => {
    const sizes = sizesOf(1, 2, 8, { batch: 33000, heads: 2 });
    const operands = operandsOf(sizes, 'bfloat16');
    const all = run(operands, sizes, 'bfloat16');
    const few = { ...sizes, batch: 10 };
    const last = (x: Float64Array) => x.slice((x.length / sizes.batch) * 32990);
    expect(all.map(last)).toEqual(run(operands.map(last), few, 'bfloat16'));
  });
});

const emulated = process.env.FLOWMAP_CUDA === 'emulated';
(emulated ? describe : describe.skip)('the fused backward on the emulator', () => {
  const results = (env: Record<string, string>) => digestsOf('attentionBackwardBits.ts', env);

  it('gives the same bits on other GPUs, in any schedule, without bank conflicts', () => {
    const first = results({ SIMT_SM: '80', SIMT_STATS: '1' });
    const banks = first.stderr.split('\n').filter((line) => /attentionDk?[qv]/.test(line) && line.includes('ldmatrix'));
    expect(banks.length).toBeGreaterThan(10);
    expect(banks.filter((line) => !line.includes('ldmatrix 1.00 passes per ideal'))).toEqual([]);
    // Of the shared memory that Hopper has.
    const large = results({ SIMT_SM: '100', SIMT_SEED: '3', SIMT_COMPLETION: 'random', SIMT_STATS: '1' });
    expect(large.bits).toEqual(first.bits);
    expect(large.stderr).toContain('WideBackwardTile<256, 4, 2>, (flowmap::cuda::Moving)2');
    const small = results({ SIMT_SM: '86', SIMT_STATS: '1', FLOWMAP_TEST_WIDE: '1' });
    expect(first.bits).toMatchObject(small.bits);
    expect(small.stderr).toContain('WideBackwardTile<256, 2, 1>');
  });
});
