// QKNorm inside attention is QKNorm before it: values, tangents and all gradients, the weights' included, with every mask.
// And keys less their mean: the same mathematics, with less rounding.
import { type AttentionOptions, memory, synchronizeSync, type Tensor } from '../../lib';
import { native } from '../../lib/native';
import { attentionSettings } from '../../lib/ops/attention';
import { attentionGradientsOf } from '../support/attentionGradients';
import { relativeError, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { type FloatingDType, floatingDTypes, tolerances } from '../support/tolerances';

const eps = 1e-3;
const names = ['o', 'to', 'gq', 'gk', 'gv', 'gtq', 'gtk', 'gtv', 'gqWeight', 'gkWeight'];

interface Setting {
  q: number[];
  k: number[];
  options?: (int32: (...values: number[]) => Tensor) => AttentionOptions;
}
const settings: [string, Setting][] = [
  ['one tile', { q: [2, 3, 5, 6], k: [2, 3, 7, 6] }],
  ['several tiles', { q: [1, 2, 130, 40], k: [1, 1, 150, 40] }],
  ['a causal mask', { q: [1, 2, 40, 24], k: [1, 2, 70, 24], options: () => ({ causal: true }) }],
  ['grouped heads', { q: [2, 20, 6, 8], k: [2, 33, 2, 8], options: () => ({ layout: 'BSHD', scale: 2 }) }],
  ['key lengths', { q: [3, 2, 9, 8], k: [3, 1, 80, 8], options: (int32) => ({ keyLengths: int32(66, 0, 80) }) }],
  [
    'packed sequences',
    {
      q: [50, 4, 8],
      k: [90, 2, 8],
      options: (int32) => ({ causal: true, queryOffsets: int32(0, 5, 5, 8, 50), keyOffsets: int32(0, 7, 9, 9, 90) }),
    },
  ],
  ['wide heads', { q: [1, 2, 20, 200], k: [1, 1, 35, 200], options: () => ({ causal: true }) }],
  ['heads of one number', { q: [1, 1, 4, 1], k: [1, 1, 5, 1] }],
];

// What an emulator has time for.
const smaller = ([title, setting]: [string, Setting]): [string, Setting] => [
  title,
  title === 'several tiles' ? { q: [1, 1, 70, 40], k: [1, 1, 75, 40] } : setting,
];

const casesOn = (label: string) => (label === 'cuda-emulated' ? settings.map(smaller) : settings);
// Where references are computed, in double precision.
const exactly = on('cpu');

describeOnDevices('QKNorm inside attention', (device, label) => {
  const { attention, checkOp, dispose, grad, jvp, ones, rmsNorm, tensor, vjp, zeros } = on(device);
  const dtypes: readonly FloatingDType[] = label === 'cuda-emulated' ? ['float32', 'bfloat16'] : floatingDTypes;
  const int32On =
    (device: string) =>
    (...values: number[]) =>
      tensor(Int32Array.from(values), { device });
  const int32 = int32On(device);

  const operandsOf = ({ q, k }: Setting, dtype: FloatingDType) =>
    [q, k, k, q, k, k, q, q, q.slice(-1), q.slice(-1)].map((shape, i) => {
      const { values } = sample(shape, i + 1);
      return tensor(
        Float64Array.from(values, (x) => (i >= 8 ? 1 + 0.3 * x : i < 2 ? 3 * x : x)),
        { shape, dtype },
      );
    });

  /** All results, with QKNorm inside or before. */
  function everything(operands: readonly Tensor[], setting: Setting, inside: boolean, weighted = true): Float64Array[] {
    const [q, k, v, tq, tk, tv, g, h, wq, wk] = operands as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const options = setting.options?.(int32On(q.device)) ?? {};
    const f = (a: Tensor, b: Tensor, c: Tensor, u: Tensor | null, w: Tensor | null) =>
      inside
        ? attention(a, b, c, { ...options, qkNorm: { qWeight: u, kWeight: w, eps } })
        : attention(rmsNorm(a, u, { eps }), rmsNorm(b, w, { eps }), c, options);
    const both = (...x: Tensor[]) =>
      jvp(
        (a: Tensor, b: Tensor, c: Tensor) => f(a, b, c, x[6] ?? null, x[7] ?? null),
        [x[0]!, x[1]!, x[2]!],
        [x[3], x[4], x[5]],
      );
    const [values, pullback] = vjp(both, [q, k, v, tq, tk, tv, ...(weighted ? [wq, wk] : [])]);
    const results = [...values, ...(pullback([g, h]) as Tensor[])].map((x) => Float64Array.from(x.dataSync()));
    pullback.dispose();
    return results;
  }

  const cases = casesOn(label);
  const widened = (operands: readonly Tensor[]) =>
    operands.map((x) => exactly.tensor(Float64Array.from(x.dataSync()), { shape: x.shape, dtype: 'float64' }));
  it.each(cases)('gives what QKNorm before attention gives: %s', (_, setting) => {
    // In 16 bits both normalised tensors are rounded outside, and their gradients; inside nothing but the results.
    for (const dtype of dtypes) {
      const operands = operandsOf(setting, dtype);
      const wide = widened(operands);
      for (const weighted of [true, false]) {
        const found = everything(operands, setting, true, weighted);
        const expected = everything(wide, setting, false, weighted);
        const allowed = { float64: 1e-12, float32: 4e-6, bfloat16: 0.024, float16: 3e-3 }[dtype];
        for (const [i, x] of found.entries()) {
          // A head of one number is normalised to its sign: the gradients are what rounding leaves.
          const error = setting.q[3] === 1 ? relativeError(x, expected[i]!) / 1e3 : relativeError(x, expected[i]!);
          if (!(error <= allowed)) throw new Error(`${names[i]} in ${dtype}: ${error}, allowed ${allowed}`);
        }
      }
      dispose([operands, wide]);
    }
  });

  it('errs no more in 16 bits than QKNorm before attention', () => {
    const setting = cases[1]![1];
    for (const dtype of ['bfloat16', 'float16'] as const) {
      const operands = operandsOf(setting, dtype);
      const wide = widened(operands);
      const exact = everything(wide, setting, false);
      const [inside, before] = [true, false].map((x) => everything(operands, setting, x)) as [
        Float64Array[],
        Float64Array[],
      ];
      for (const [i, x] of exact.entries()) {
        expect(relativeError(inside[i]!, x)).toBeLessThanOrEqual(1.05 * relativeError(before[i]!, x));
      }
    }
  });

  it('moves with its weights', () => {
    const { q, k } = settings[0]![1];
    const [x, y, v, tx, , , , , wq, wk] = operandsOf({ q, k }, 'float64') as Tensor[];
    const f = (inside: boolean) => (a: Tensor, u: Tensor, w: Tensor) =>
      inside
        ? attention(a, y!, v!, { qkNorm: { qWeight: u, kWeight: w, eps } })
        : attention(rmsNorm(a, u, { eps }), rmsNorm(y!, w, { eps }), v!);
    const tangents = [tx!, sample([6], 30), sample([6], 31)].map((t) =>
      'dataSync' in t ? t : tensor(Float64Array.from(t.values), { shape: t.shape }),
    ) as Tensor[];
    for (const some of [[0, 1, 2], [1], [2], [0]]) {
      const moving = tangents.map((t, i) => (some.includes(i) ? t : null)) as [Tensor | null, Tensor | null, null];
      const [inside, before] = [true, false].map((way) => jvp(f(way), [x!, wq!, wk!], moving));
      for (const i of [0, 1] as const)
        expect(relativeError(inside![i].dataSync(), before![i].dataSync())).toBeLessThan(1e-12);
    }
  });

  it.each([
    ['causal', { q: [1, 2, 3, 4], k: [1, 1, 4, 4], options: () => ({ causal: true }) }],
    [
      'packed',
      { q: [4, 2, 3], k: [5, 1, 3], options: (int) => ({ queryOffsets: int(0, 3, 4), keyOffsets: int(0, 2, 5) }) },
    ],
  ] as [string, Setting][])('differentiates to third order, by finite differences: %s', (_, setting) => {
    const options = { ...setting.options!(int32), centerKeys: true };
    const samples = [setting.q, setting.k, setting.k, setting.q.slice(-1), setting.q.slice(-1)].map((shape, i) =>
      sample(shape, i + 1),
    );
    const f = (...[a, b, c, u, w]: Tensor[]) =>
      attention(a!, b!, c!, { ...options, qkNorm: { qWeight: u!, kWeight: w!, eps } });
    const tq = tensor(Float64Array.from(sample(setting.q, 9).values), { shape: setting.q });
    const tk = tensor(Float64Array.from(sample(setting.k, 10).values), { shape: setting.k });
    const given = { dtypes: [], tolerance: 1e-5 };
    checkOp(f, samples, given);
    checkOp(
      (...x) => jvp((a: Tensor, b: Tensor) => f(a, b, ...x.slice(2)), [x[0]!, x[1]!], [tq, tk])[1],
      samples,
      given,
    );
    checkOp(
      (...x) =>
        grad((b: Tensor) =>
          f(x[0]!, b, ...x.slice(2))
            .square()
            .sum(),
        )(x[1]!) as Tensor,
      samples,
      given,
    );
  });

  it('does not see what lies beyond the keys that count, be it NaN', () => {
    const setting = settings[4]![1];
    const run = (fill: number) => {
      const operands = operandsOf(setting, 'float32').map((x) => {
        if (x.shape[2] !== 80) return x;
        const values = x.dataSync().map((y, at) => (at < 80 * 8 && at >= 66 * 8 ? fill : y)) as Float32Array;
        return tensor(values, { shape: x.shape, dtype: 'float32' });
      });
      return everything(operands, setting, true);
    };
    expect(run(Number.NaN)).toEqual(run(0));
  });

  it('does not let a key that does not count, be it NaN, reach weights that move', () => {
    const shape = [1, 1, 5, 4];
    const draw = (seed: number) => tensor(Float64Array.from(sample(shape, seed).values), { shape });
    const [q, v, tq] = [draw(1), draw(2), draw(3)];
    const k = tensor(
      Float64Array.from(sample(shape, 4).values, (x, at) => (at >= 16 ? Number.NaN : x)),
      { shape },
    );
    const [w, tw] = [ones([4], { dtype: 'float64' }), tensor(Float64Array.of(1, -1, 0.5, 2))];
    const f = (b: Tensor, u: Tensor) => attention(q, b, v, { keyLengths: int32(4), qkNorm: { kWeight: u } });
    const [[, to], pullback] = vjp((b: Tensor, u: Tensor) => jvp(f, [b, u], [tq, tw]), [k, w]);
    const gradients = (pullback([q, v]) as Tensor[]).map((x) => [...x.dataSync()]);
    expect([...to.dataSync(), ...gradients.flat()].every(Number.isFinite)).toBe(true);
    expect(gradients[0]!.slice(16)).toEqual([0, 0, 0, 0]);
  });

  it('takes tangents and cotangents that are absent for zeros', () => {
    const setting = settings[0]![1];
    const operands = operandsOf(setting, 'float64');
    const [q, k, v, tq, tk, tv, g, h, wq, wk] = operands as unknown as Tensor[] & { length: 10 };
    const f = (a: Tensor, b: Tensor, c: Tensor, u: Tensor, w: Tensor) =>
      attention(a, b, c, { centerKeys: true, qkNorm: { qWeight: u, kWeight: w, eps } });
    for (const [tangents, cotangents] of [
      [
        [tq, null, null],
        [g, h],
      ],
      [
        [null, tk, tv],
        [null, h],
      ],
      [
        [tq, tk, tv],
        [g, null],
      ],
    ] as (Tensor | null)[][][]) {
      const run = (t: readonly (Tensor | null)[], [first, second]: readonly (Tensor | null)[]) => {
        const [, pullback] = vjp(
          (...x: Tensor[]) => {
            const [a, b, c, u, w] = x as [Tensor, Tensor, Tensor, Tensor, Tensor];
            return jvp((d: Tensor, e: Tensor, z: Tensor) => f(d, e, z, u, w), [a, b, c], t as [Tensor, null, null]);
          },
          [q!, k!, v!, wq!, wk!],
        );
        return (pullback([first, second] as never) as Tensor[]).map((x) => x.dataSync());
      };
      const filled = tangents!.map((t, i) => t ?? zeros([q!, k!, v!][i]!.shape, { dtype: 'float64' }));
      const all = cotangents!.map((c) => c ?? zeros(q!.shape, { dtype: 'float64' }));
      const expected = run(filled, all);
      for (const [i, x] of run(tangents!, cotangents!).entries()) {
        expect(relativeError(x, expected[i]!)).toBeLessThan(1e-12);
      }
    }
  });

  it('keeps less for the backward pass than QKNorm before attention', () => {
    const shape = [2, 4, 64, 32];
    const [q, k, v] = [1, 2, 3].map((seed) => tensor(Float32Array.from(sample(shape, seed).values), { shape })) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const kept = (f: (a: Tensor, b: Tensor, c: Tensor) => Tensor) => {
      synchronizeSync(device); // what is queued may hold memory that is free already
      const before = memory(device).bytes;
      const [o, pullback] = vjp(f, [q, k, v]);
      synchronizeSync(device);
      const bytes = memory(device).bytes - before;
      pullback.dispose();
      o.dispose();
      return bytes;
    };
    const inside = kept((a, b, c) => attention(a, b, c, { qkNorm: true }));
    const outside = kept((a, b, c) => attention(rmsNorm(a), rmsNorm(b), c));
    expect(outside - inside).toBeGreaterThanOrEqual(2 * 4 * q.size);
  });

  it.each([
    ['a weight of another shape', { qWeight: zeros([5]) }, /attention: qWeight must have shape \[4\], got \[5\]/],
    ['a weight of another dtype', { kWeight: zeros([4], { dtype: 'float64' }) }, /attention: kWeight must be float32/],
    ['an eps of zero', { eps: 0 }, /attention: eps must be a positive finite number, got 0/],
    ['a negative eps', { eps: -1 }, /attention: eps must be a positive finite number, got -1/],
    [
      'no options at all',
      'yes' as never,
      /attention: qkNorm must be a boolean or \{ qWeight, kWeight, eps \}, got yes/,
    ],
    ['null', null as never, /attention: qkNorm must be a boolean or .*, got null/],
    ['a tensor', ones([4]) as never, /attention: qkNorm must be a boolean or .*, got an object/],
    [
      'another name',
      { weight: ones([4]) } as never,
      /attention: qkNorm must have qWeight, kWeight or eps, got 'weight'/,
    ],
    [
      'a weight that is no tensor',
      { kWeight: [1, 1, 1, 1] } as never,
      /attention: kWeight must be a tensor or null, got an array/,
    ],
  ] as [string, object, RegExp][])('names what does not fit: %s', (_, qkNorm, message) => {
    const x = ones([1, 1, 3, 4]);
    expect(() => attention(x, x, x, { qkNorm })).toThrow(message);
  });

  it('names weights without QKNorm', () => {
    const x = ones([1, 1, 3, 4])._handle;
    const attributes = {
      layout: 'BHSD' as const,
      causal: false,
      scale: 1,
      normalize: false,
      eps,
      centerKeys: false,
      deterministic: true,
    };
    for (const [at, name] of ['qWeight', 'kWeight'].entries()) {
      const weights = [at === 0 ? ones([4])._handle : null, at === 1 ? ones([4])._handle : null];
      expect(() => native.attention(x, x, x, ...attentionSettings(weights, attributes))).toThrow(
        `attention: ${name} must be absent without QKNorm`,
      );
    }
  });
});

describeOnDevices('attention with centred keys', (device, label) => {
  const { attention, jvp, tensor, vjp } = on(device);
  const int32 = (...values: number[]) => tensor(Int32Array.from(values));

  function everything(operands: readonly Tensor[], options: AttentionOptions): Float64Array[] {
    const [q, k, v, tq, tk, tv, g, h] = operands as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    const f = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, options);
    const [values, pullback] = vjp(
      (...x: Tensor[]) => jvp(f, [x[0]!, x[1]!, x[2]!], [x[3], x[4], x[5]]),
      [q, k, v, tq, tk, tv],
    );
    return [...values, ...(pullback([g, h]) as Tensor[])].map((x) => Float64Array.from(x.dataSync()));
  }
  const operandsOf = (q: number[], k: number[], dtype: FloatingDType, offset: number) =>
    [q, k, k, q, k, k, q, q].map((shape, i) => {
      const dim = shape[shape.length - 1]!;
      const { values } = sample(shape, i + 1);
      const shift = (at: number) => (i === 1 ? offset * Math.sin(1 + (at % dim)) : i === 4 ? Math.cos(at % dim) : 0);
      return tensor(
        Float64Array.from(values, (x, at) => x + shift(at)),
        { shape, dtype },
      );
    });

  it.each(casesOn(label))('gives the same but for rounding: %s', (_, setting) => {
    for (const qkNorm of [false, true]) {
      const operands = operandsOf(setting.q, setting.k, 'float64', 3);
      const options = { ...setting.options?.(int32), qkNorm };
      const plain = everything(operands, options);
      const centred = everything(operands, { ...options, centerKeys: true });
      for (const [i, x] of centred.entries()) {
        const size = Math.max(...plain.map((y) => Math.sqrt(y.reduce((sum, z) => sum + z * z, 0))));
        const difference = Math.sqrt(x.reduce((sum, y, at) => sum + (y - plain[i]![at]!) ** 2, 0));
        expect(difference).toBeLessThan(1e-12 * size);
      }
    }
  });

  it('is no worse for keys with a large common part, in any type', () => {
    const [queries, keys] = label === 'cuda-emulated' ? [70, 75] : [130, 150];
    const [batch, heads, dim] = [1, 2, 64];
    const [q, k] = [[batch, heads, queries, dim], [batch, heads, keys, dim]] as [number[], number[]]; // biome-ignore format: a row
    for (const dtype of ['bfloat16', 'float16', 'float32'] as const) {
      const operands = operandsOf(q, k, dtype, 8);
      const stored = operands.map((x) => Float64Array.from(x.dataSync()));
      const sizes = { batch, heads, keyHeads: heads, queries, keys, dim };
      const exact = attentionGradientsOf(stored.slice(0, 6), [stored[6]!, stored[7]!], sizes, {});
      const [plain, centred] = [false, true].map((centerKeys) => everything(operands, { centerKeys }).slice(2)) as [
        Float64Array[],
        Float64Array[],
      ];
      // gq and gtq. In 16 bits the results' own rounding is nearly all of it.
      for (const i of [0, 3]) {
        const [with_, without] = [relativeError(centred[i]!, exact[i]!), relativeError(plain[i]!, exact[i]!)];
        expect(with_).toBeLessThanOrEqual(1.05 * without);
        expect(with_).toBeLessThan(tolerances[dtype]);
      }
    }
  });

  it('lets a key that is not finite spoil what sees it alone', () => {
    const operands = operandsOf([1, 1, 6, 4], [1, 1, 6, 4], 'float32', 1);
    const k = operands[1]!.dataSync() as Float32Array;
    k[5 * 4 + 1] = Number.NaN;
    operands[1] = tensor(k, { shape: [1, 1, 6, 4] });
    const o = attention(operands[0]!, operands[1]!, operands[2]!, { causal: true, centerKeys: true }).dataSync();
    expect([...o].map(Number.isFinite)).toEqual([...Array(20).fill(true), ...Array(4).fill(false)]);
  });
});
