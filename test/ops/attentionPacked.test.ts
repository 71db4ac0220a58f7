// Attention over packed sequences, its tangent and the backward of both: what each sequence gives alone, and the
// definition in float64; sequences may be empty on either side.
import fc from 'fast-check';
import { type AttentionOptions, Tensor } from '../../lib';
import { native } from '../../lib/native';
import { attentionSettings } from '../../lib/ops/attention';
import { relativeError, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices, onHopper } from '../support/devices';
import {
  alone,
  definition,
  everything,
  offsetTensors,
  ofKeys,
  type Packed,
  resultNames,
  resultOfKeys,
  rowsOf,
  shapesOf,
  tensorsOf,
} from '../support/packedAttention';
import { type FloatingDType, floatingDTypes, tolerances } from '../support/tolerances';

const one = { heads: 1, keyHeads: 1, dim: 8 };
const grid: [string, Packed, AttentionOptions][] = [
  ['several', { lengths: [[5, 7], [3, 3], [33, 70]], heads: 2, keyHeads: 2, dim: 24 }, {}], // biome-ignore format: a row
  ['several, causal', { lengths: [[5, 7], [97, 65], [3, 3]], heads: 2, keyHeads: 2, dim: 20 }, { causal: true }], // biome-ignore format: a row
  ['grouped heads', { lengths: [[9, 35], [40, 8]], heads: 6, keyHeads: 2, dim: 12 }, { causal: true, scale: -0.4 }], // biome-ignore format: a row
  ['empty ones first', { ...one, lengths: [[0, 0], [0, 5], [4, 0], [6, 9]] }, {}], // biome-ignore format: a row
  ['empty ones between', { ...one, lengths: [[6, 9], [0, 5], [0, 0], [4, 0], [3, 4]] }, { causal: true }], // biome-ignore format: a row
  ['empty ones last', { ...one, lengths: [[6, 9], [4, 0], [0, 5], [0, 0]] }, {}], // biome-ignore format: a row
  ['one without a key', { ...one, lengths: [[5, 0]] }, {}],
  ['one without a query', { ...one, lengths: [[0, 5]] }, { causal: true }],
  ['none', { ...one, lengths: [] }, {}],
  ['wide heads', { lengths: [[5, 7], [0, 3], [70, 20]], heads: 2, keyHeads: 1, dim: 136 }, { causal: true }], // biome-ignore format: a row
];
const large: (typeof grid)[number] = [
  'one large and many small',
  { ...one, lengths: [[3, 2], [300, 310], ...Array(40).fill([4, 5])] },
  { causal: true },
];
const lessLarge: typeof large = [
  large[0],
  { ...one, lengths: [[3, 2], [80, 90], ...Array(40).fill([2, 3])] },
  large[2],
];

describeOnDevices('attention over packed sequences', (device, label) => {
  const { attention, checkOp, grad, jvp, tensor, vjp, zeros } = on(device);
  const emulated = label === 'cuda-emulated';
  const cases = [...grid, emulated ? lessLarge : large];
  const dtypes: readonly FloatingDType[] = emulated ? ['float32', 'bfloat16'] : floatingDTypes;
  const otherKernel = (dtype: FloatingDType) => device !== 'cpu' && onHopper && /16$/.test(dtype);
  const withOffsets = (packed: Packed, options: AttentionOptions) => ({ ...options, ...offsetTensors(packed, device) });

  it.each(cases)('gives every sequence what it gives it alone: %s', (_, packed, options) => {
    for (const dtype of dtypes) {
      const operands = tensorsOf(packed, dtype, device);
      const together = everything(operands, withOffsets(packed, options));
      packed.lengths.forEach((_pair, i) => {
        const expected = everything(alone(operands, packed, i), { ...options, layout: 'BSHD' });
        resultNames.forEach((name, at) => {
          const found = rowsOf(together[at]!, packed, i, resultOfKeys[at]!);
          // The keys' gradients are sums over tasks, whose number may differ.
          if (['gk', 'gv', 'gtk', 'gtv'].includes(name) || otherKernel(dtype)) {
            expect(relativeError(found, expected[at]!)).toBeLessThanOrEqual(tolerances[dtype]);
          } else {
            expect(found).toEqual(expected[at]);
          }
        });
      });
    }
  });

  it.each(cases)('holds to the definition: %s', (_, packed, options) => {
    const allowed: Record<FloatingDType, number> = {
      float64: 1e-11,
      float32: 4e-6,
      bfloat16: 3 * tolerances.bfloat16,
      float16: 3 * tolerances.float16,
    };
    for (const dtype of dtypes) {
      const operands = tensorsOf(packed, dtype, device);
      const stored = operands.map((x) => Float64Array.from(x.dataSync()));
      const expected = definition(stored, packed, options).results;
      const found = everything(operands, withOffsets(packed, options));
      resultNames.forEach((name, at) => {
        const error = relativeError(found[at]!, expected[at]!);
        if (!(error <= allowed[dtype])) throw new Error(`${name} in ${dtype}: ${error}, allowed ${allowed[dtype]}`);
      });
    }
  });

  it('gives any sequences what it gives them alone', () => {
    const lengths = fc.array(fc.tuple(fc.nat({ max: 40 }), fc.nat({ max: 80 })), { maxLength: 6 });
    const heads = fc.constantFrom([1, 1], [2, 1], [6, 3], [3, 3]);
    const one = (dtype: 'float32' | 'bfloat16') =>
      fc.property(lengths, heads, fc.integer({ min: 1, max: 40 }), fc.boolean(), (pairs, [all, some], dim, causal) => {
        const packed = { lengths: pairs, heads: all!, keyHeads: some!, dim };
        const operands = tensorsOf(packed, dtype, device);
        const together = everything(operands, withOffsets(packed, { causal }));
        pairs.forEach((_, i) => {
          const expected = everything(alone(operands, packed, i), { causal, layout: 'BSHD' });
          for (const at of [0, 1, 2, 5]) {
            const found = rowsOf(together[at]!, packed, i, false);
            if (!otherKernel(dtype)) expect(found).toEqual(expected[at]);
            else expect(relativeError(found, expected[at]!)).toBeLessThanOrEqual(tolerances[dtype]);
          }
        });
      });
    fc.assert(one('float32'), { numRuns: emulated ? 5 : 25 });
    fc.assert(one('bfloat16'), { numRuns: emulated ? 5 : 10 });
  });

  it('keeps the logarithms of sums and the tangents’ means by head, infinity and zero where there is no key', () => {
    const packed: Packed = { lengths: [[2, 3], [2, 0], [0, 4], [3, 5]], heads: 4, keyHeads: 2, dim: 6 }; // biome-ignore format: a row
    const operands = tensorsOf(packed, 'float64', device);
    const { queryOffsets, keyOffsets } = offsetTensors(packed, device);
    const handles = operands.map((x) => x._handle) as [number, number, number, number, number, number];
    const settings = attentionSettings([null, null, null, queryOffsets._handle, keyOffsets._handle], {
      causal: true,
      scale: 0.5,
      layout: 'SHD',
      normalize: false,
      eps: 1e-6,
      centerKeys: false,
      deterministic: true,
    });
    const [q, k, v, tq, tk, tv] = handles;
    const found = native.attentionJvp(q, k, v, tq, tk, tv, ...settings).map((x) => new Tensor(x));
    const values = operands.map((x) => Float64Array.from(x.dataSync()));
    const { lse, mu } = definition(values, packed, { causal: true, scale: 0.5 });
    expect(found[2]!.shape).toEqual([4, 7]);
    const finite = (x: ArrayLike<number>) => Array.from(x, (y) => (y === Number.POSITIVE_INFINITY ? 1000 : y));
    expect(relativeError(finite(found[2]!.dataSync()), finite(lse))).toBeLessThan(1e-13);
    expect(relativeError(found[3]!.dataSync(), mu)).toBeLessThan(1e-13);
  });

  it('takes tangents and cotangents that are null for zeros', () => {
    const packed: Packed = { lengths: [[4, 6], [0, 2], [5, 3]], heads: 2, keyHeads: 1, dim: 5 }; // biome-ignore format: a row
    const options = withOffsets(packed, { causal: true });
    const operands = tensorsOf(packed, 'float64', device);
    const [q, k, v, tq, tk, tv, g, h] = operands as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    const f = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, options);
    for (let present = 1; present < 8; present++) {
      const tangents = [tq, tk, tv].map((x, i) => (present & (1 << i) ? x : null));
      const filled = tangents.map((x, i) => x ?? zeros([q, k, v][i]!.shape, { dtype: 'float64' }));
      for (const [cg, ch] of [
        [g, h],
        [g, null],
        [null, h],
      ] as const) {
        // biome-ignore format: a row
        const run = (t: readonly (Tensor | null)[], first: Tensor | null, second: Tensor | null) => {
          const [[, to], pull] = vjp(
            (a: Tensor, b: Tensor, c: Tensor) => jvp(f, [a, b, c], t as [Tensor | null, Tensor | null, Tensor | null]),
            [q, k, v],
          );
          const found = pull([first, second] as never) as Tensor[];
          return [to, ...found].map((x) => Float64Array.from(x.dataSync()));
        };
        const expected = run(
          filled,
          cg ?? zeros(g.shape, { dtype: 'float64' }),
          ch ?? zeros(g.shape, { dtype: 'float64' }),
        );
        run(tangents, cg, ch).forEach((x, i) => {
          expect(relativeError(x, expected[i]!)).toBeLessThan(1e-12);
        });
      }
    }
  });

  it('lets nothing of one sequence, NaN included, reach another', () => {
    const packed: Packed = { lengths: [[5, 6], [7, 9], [4, 3]], heads: 2, keyHeads: 1, dim: 6 }; // biome-ignore format: a row
    const run = (fill: number | null) => {
      const operands = tensorsOf(packed, 'float32', device).map((x, at) => {
        const values = Float64Array.from(x.dataSync());
        if (fill !== null) rowsOf(values, packed, 1, ofKeys[at]!).fill(fill);
        return tensor(values, { shape: x.shape, dtype: 'float32' });
      });
      return everything(operands, withOffsets(packed, {}));
    };
    const [clean, spoilt] = [run(null), run(Number.NaN)];
    resultNames.forEach((_, at) => {
      for (const i of [0, 2]) {
        expect(rowsOf(spoilt[at]!, packed, i, resultOfKeys[at]!)).toEqual(
          rowsOf(clean[at]!, packed, i, resultOfKeys[at]!),
        );
      }
      expect(rowsOf(spoilt[at]!, packed, 1, resultOfKeys[at]!).every(Number.isNaN)).toBe(true);
    });
  });

  it('gives the same bits on every run', () => {
    const [, packed, options] = cases.at(-1)!;
    const run = () => everything(tensorsOf(packed, 'float32', device), withOffsets(packed, options));
    expect(run()).toEqual(run());
  });

  it.each([
    ['causal', { lengths: [[2, 3], [0, 2], [2, 2]], heads: 2, keyHeads: 1, dim: 3 }, { causal: true }], // biome-ignore format: a row
    ['an empty one', { lengths: [[2, 0], [2, 3]], heads: 1, keyHeads: 1, dim: 2 }, {}], // biome-ignore format: a row
  ] as [string, Packed, AttentionOptions][])('differentiates to third order: %s', (_, packed, more) => {
    const options = withOffsets(packed, more);
    const samples = shapesOf(packed)
      .slice(0, 3)
      .map((shape, i) => sample(shape, i + 1));
    const [tq, tk, tv] = tensorsOf(packed, 'float64', device, 20) as [Tensor, Tensor, Tensor];
    const settings = { dtypes: ['float64'] as const, tolerance: 1e-5 };
    const loss = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, options).square().sum();
    const f = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, options);
    checkOp((a, b, c) => f(a!, b!, c!), samples, settings);
    checkOp((a, b, c) => jvp(f, [a!, b!, c!], [tq, tk, tv])[1], samples, settings);
    checkOp((a, b, c) => grad((x: Tensor) => loss(x, b!, c!))(a!) as Tensor, samples, settings);
    checkOp(
      (a, b, c) => jvp((x: Tensor) => grad((y: Tensor) => loss(a!, y, c!))(x) as Tensor, [b!], [tk])[1],
      samples,
      { ...settings, dtypes: [] },
    );
  });
});

describeOnDevices('refusals of attention over packed sequences', (device) => {
  const { attention, grad, tensor, zeros } = on(device);
  const [q, k] = [zeros([12, 2, 4]), zeros([9, 1, 4])];
  const int32 = (...values: number[]) => tensor(Int32Array.from(values));
  const good = { queryOffsets: int32(0, 5, 12), keyOffsets: int32(0, 9, 9) };

  it.each([
    ['queryOffsets', [0, 9, 7, 12], 'queryOffsets must not decrease, got 7 after 9 at index 2'],
    ['queryOffsets', [1, 9, 12], 'queryOffsets must begin at 0, got 1'],
    ['queryOffsets', [0, 9, 11], 'queryOffsets must end at 12 (the queries), got 11'],
    ['queryOffsets', [0, 2147483647, 12], 'queryOffsets must not decrease, got 12 after 2147483647 at index 2'],
    ['queryOffsets', [0], 'queryOffsets must end at 12 (the queries), got 0'],
    ['keyOffsets', [0, -3, 9], 'keyOffsets must not decrease, got -3 after 0 at index 1'],
    ['keyOffsets', [-1, 9, 9], 'keyOffsets must begin at 0, got -1'],
    ['keyOffsets', [0, 9, 10], 'keyOffsets must end at 9 (the keys), got 10'],
  ] as const)('names the value of %s that does not fit: %j', (name, values, message) => {
    const even = { queryOffsets: [0, 5, 12, 12, 12], keyOffsets: [0, 9, 9, 9, 9] };
    const other = name === 'queryOffsets' ? 'keyOffsets' : 'queryOffsets';
    const fill = values.length === 1 ? [other === 'keyOffsets' ? 9 : 12] : even[other].slice(0, values.length);
    if (values.length === 1) fill[0] = 0;
    const options = { [name]: int32(...values), [other]: int32(...fill) };
    const call = () => attention(q, k, k, options);
    expect(() => call().dataSync()).toThrow(`attention: ${message}`);
    const backward = () => grad((x: Tensor) => attention(x, k, k, options).sum())(q) as Tensor;
    expect(() => backward().dataSync()).toThrow(message);
  });

  it.each([
    ['a missing one', { queryOffsets: good.queryOffsets }, /keyOffsets must both be given .*, got queryOffsets alone/],
    ['another missing one', { keyOffsets: good.keyOffsets }, /must both be given .*, got keyOffsets alone/],
    ['a dtype', { ...good, keyOffsets: tensor([0, 9, 9]) }, /keyOffsets must be int32, got float32/],
    [
      'a rank',
      { ...good, queryOffsets: tensor(Int32Array.of(0, 12), { shape: [1, 2] }) },
      /queryOffsets must have rank 1/,
    ],
    ['a length', { ...good, keyOffsets: int32(0, 9) }, /keyOffsets must have shape \[3\], got \[2\]/],
    ['no offset at all', { queryOffsets: int32(), keyOffsets: int32() }, /queryOffsets must have at least one element/],
    [
      'a layout',
      { ...good, layout: 'BSHD' as const },
      /layout must be absent with queryOffsets and keyOffsets .*'BSHD'/,
    ],
    ['key lengths', { ...good, keyLengths: int32(9, 0) }, /keyLengths must be absent for packed sequences/],
  ] as [string, AttentionOptions, RegExp][])('names what does not fit: %s', (_, options, message) => {
    expect(() => attention(q, k, k, options)).toThrow(message);
  });

  it('names a rank that is not that of packed tokens', () => {
    const x = zeros([1, 12, 2, 4]);
    expect(() => attention(x, x, x, good)).toThrow(/attention: q must have rank 3/);
  });

  if (device !== 'cpu') {
    it('names offsets on another device', () => {
      const keyOffsets = tensor(Int32Array.of(0, 9, 9), { device: 'cpu' });
      expect(() => attention(q, k, k, { ...good, keyOffsets })).toThrow(/keyOffsets must be on/);
    });
  }
});
