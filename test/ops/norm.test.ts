// RMS normalisation, modulation and QKV splits: values in every dtype, derivatives to second order
// against differences, to third through the compositions, the fused passes against plain ops, on every device.
import type { Tensor } from '../../lib';
import { rmsNormJvp, rmsNormJvpVjp } from '../../lib/ops/norm';
import { relativeError, type Sample, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

describeOnDevices('normalisation', (device) => {
  const { checkOp, grad, jvp, ones, rmsNorm, rmsNormModulate, splitQkv, tensor, zeros } = on(device);
  const f32 = (values: ArrayLike<number>, shape: number[]) => tensor(Float32Array.from(Array.from(values)), { shape });

  describe('rmsNorm', () => {
    it.each([1, 7, 72, 100, 1152, 4097])('has the value and derivatives of its formula at width %i', (width) => {
      const reference = (x: Float64Array, w?: Float64Array) => {
        const out = new Float64Array(x.length);
        for (let row = 0; row < x.length / width; row++) {
          let squares = 0;
          for (let i = 0; i < width; i++) squares += x[row * width + i]! ** 2;
          const r = 1 / Math.sqrt(squares / width + 1e-6);
          for (let i = 0; i < width; i++) out[row * width + i] = x[row * width + i]! * r * (w ? w[i]! : 1);
        }
        return out;
      };
      const x = sample([3, 5, width], width);
      const w = sample([width], width + 1);
      checkOp((a, b) => rmsNorm(a!, b!), [x, w], { reference });
      checkOp((a) => rmsNorm(a!), [x], { reference: (a) => reference(a) });
    });

    it('handles no rows, and one', () => {
      expect(rmsNorm(zeros([0, 8])).shape).toEqual([0, 8]);
      checkOp((a) => rmsNorm(a!), [sample([1, 9], 3)]);
      checkOp((a) => rmsNorm(a!), [sample([9], 4)]);
    });

    it('sums weight gradients to the same bits on every run', () => {
      const [x, g] = [f32(sample([4000, 33], 1).values, [4000, 33]), f32(sample([4000, 33], 2).values, [4000, 33])];
      const w = ones([33]);
      const once = () => rmsNormJvpVjp([x, w, g, null], g, x, [true, true, true, true]).map((t) => [...t!.dataSync()]);
      expect(once()).toEqual(once());
    });

    it.each([1, 3, 16, 24, 96, 128, 129])('gives a row of width %i the same bits whatever is around it', (width) => {
      const [rows, first, count] = [37, 5, 3];
      const nan = (x: Sample) => Array.from(x.values, (v, i) => (Math.floor(i / width) === rows - 1 ? Number.NaN : v));
      const all = [1, 2, 3, 4].map((seed) => f32(nan(sample([rows, width], seed)), [rows, width]));
      const some = all.map((t) => t.slice([first, 0], [first + count, width]));
      const w = f32(sample([width], 5).values, [width]);
      const results = ([x, tx, g, h]: Tensor[]) => [
        rmsNorm(x!, w),
        ...rmsNormJvp([x!, w], [tx!, w]),
        ...rmsNormJvpVjp([x!, w, tx!, w], g!, h!, [true, false, true, false]).filter((t) => t !== null),
      ];
      const [among, alone] = [results(all), results(some)];
      expect(among).toHaveLength(5);
      for (const [i, y] of among.entries()) {
        expect([...y.slice([first, 0], [first + count, width]).dataSync()]).toEqual([...alone[i]!.dataSync()]);
        const values = y.dataSync();
        expect(values.findIndex(Number.isNaN)).toBe((rows - 1) * width);
      }
    });

    it('takes an absent tangent for zero', () => {
      const x = f32(sample([6, 10], 5).values, [6, 10]);
      const [y, ty] = rmsNormJvp([x, ones([10])], [null, null]);
      expect([...y.dataSync()]).toEqual([...rmsNorm(x, ones([10])).dataSync()]);
      expect(ty.dataSync().every((v) => v === 0)).toBe(true);
    });

    it.each([
      [
        'weight of another width',
        () => rmsNorm(ones([2, 3]), ones([4])),
        /rmsNorm: weight must have shape \[3\], got \[4\]/,
      ],
      ['integers', () => rmsNorm(ones([2, 3], { dtype: 'int32' })), /rmsNorm: x must be a floating type/],
      ['a NaN eps', () => rmsNorm(ones([2, 3]), null, { eps: Number.NaN }), /rmsNorm: eps must be a positive finite/],
      ['a scalar', () => rmsNorm(tensor(1)), /rmsNorm: x must have rank at least 1/],
      [
        'a scale of another batch',
        () => rmsNormModulate(ones([2, 3, 4]), ones([2, 4]), ones([1, 4])),
        /scale must have shape \[2, 4\]/,
      ],
      [
        'heads that do not divide',
        () => splitQkv(ones([1, 2, 12]), null, null, { heads: 5 }),
        /divisible by 3 · heads = 15/,
      ],
    ])('refuses %s', (_, call, message) => {
      expect(call).toThrow(message);
    });
  });

  describe('rmsNormModulate', () => {
    it.each([
      [2, 5, 7],
      [3, 1, 24],
      [1, 70, 96],
    ])('agrees with its parts at [%i, %i, %i]', (batch, tokens, width) => {
      checkOp(
        (x, shift, scale) => rmsNormModulate(x!, shift!, scale!),
        [sample([batch, tokens, width], 1), sample([batch, width], 2), sample([batch, width], 3)],
      );
      const [x, shift, scale] = [
        sample([batch, tokens, width], 1),
        sample([batch, width], 2),
        sample([batch, width], 3),
      ].map(({ values, shape }) => tensor(Float64Array.from(Array.from(values)), { shape }));
      const plain = rmsNorm(x!)
        .mul(scale!.reshape([batch, 1, width]).add(1))
        .add(shift!.reshape([batch, 1, width]));
      expect(relativeError(rmsNormModulate(x!, shift!, scale!).dataSync(), plain.dataSync())).toBeLessThan(1e-14);
    });
  });

  describe('splitQkv', () => {
    it.each([true, false])('splits heads and their derivatives, normalising: %s', (normalize) => {
      const [batch, tokens, heads, dim] = [2, 3, 4, 5];
      const qkv = sample([batch, tokens, 3 * heads * dim], 7);
      const weights = normalize ? [sample([dim], 8), sample([dim], 9)] : [];
      checkOp(
        (x, qWeight, kWeight) => splitQkv(x!, qWeight ?? null, kWeight ?? null, { heads, normalize }),
        [qkv, ...weights],
      );
      const x = tensor(Float64Array.from(Array.from(qkv.values)), { shape: [batch, tokens, 3, heads, dim] });
      const [q, , v] = splitQkv(x.reshape([batch, tokens, 3 * heads * dim]), null, null, { heads, normalize });
      const part = (i: number) => x.slice([0, 0, i], [batch, tokens, i + 1]).reshape([batch, tokens, heads, dim]);
      expect([...v.dataSync()]).toEqual([...part(2).dataSync()]);
      const expected = normalize ? rmsNorm(part(0)) : part(0);
      expect(relativeError(q.dataSync(), expected.dataSync())).toBeLessThan(1e-14);
    });

    it('gives zero gradient to the parts no result depends on', () => {
      const x = tensor(Float64Array.from(Array.from(sample([1, 2, 12], 1).values)), { shape: [1, 2, 12] });
      checkOp((t) => splitQkv(t!, null, null, { heads: 2 })[2], [{ shape: [1, 2, 12], values: x.dataSync() }]);
    });
  });

  describe('third derivatives', () => {
    const [batch, tokens, heads, dim] = [2, 2, 2, 3];
    const width = 3 * heads * dim;
    const x = sample([batch, tokens, width], 11);
    const weights = [sample([dim], 12), sample([dim], 13)];
    // Every output counts, and not alike, and its square takes derivatives on through it.
    const mixed = (outputs: readonly Tensor[]) =>
      outputs.map((y, i) => y.mul(y.add(0.3 * (i + 1))).sum()).reduce((a, b) => a.add(b));
    const cases: [string, (...inputs: Tensor[]) => Tensor, Sample[]][] = [
      ['rmsNorm', (a, w) => mixed([rmsNorm(a!, w!)]), [sample([4, 5], 14), sample([5], 15)]],
      [
        'rmsNormModulate',
        (a, shift, scale) => mixed([rmsNormModulate(a!, shift!, scale!)]),
        [sample([2, 3, 4], 16), sample([2, 4], 17), sample([2, 4], 18)],
      ],
      ['splitQkv with weights', (a, q, k) => mixed(splitQkv(a!, q!, k!, { heads })), [x, ...weights]],
      ['splitQkv without weights', (a) => mixed(splitQkv(a!, null, null, { heads })), [x]],
      ['splitQkv that does not normalise', (a) => mixed(splitQkv(a!, null, null, { heads, normalize: false })), [x]],
      [
        'splitQkv of which only the keys count',
        (a, k) => mixed([splitQkv(a!, null, k!, { heads })[1]]),
        [x, weights[1]!],
      ],
    ];
    const upload = ({ shape, values }: Sample) => tensor(Float64Array.from(Array.from(values)), { shape });

    it.each(cases)('of %s agree with differences, by reverse of reverse and reverse of forward', (_, f, samples) => {
      const directions = samples.map(({ shape }, i) => upload(sample(shape, 30 + i)));
      const all = samples.map((_, i) => i);
      const reversed = (...inputs: Tensor[]) => grad(f, { argnums: all })(...inputs) as Tensor[];
      const pushed = (...inputs: Tensor[]) =>
        grad((...at: Tensor[]) => jvp(f, at, directions)[1], { argnums: all })(...inputs) as Tensor[];
      for (const second of [reversed, pushed]) checkOp(second, samples, { dtypes: ['float64'], tolerance: 1e-5 });
    });

    it.each(cases.slice(2))('of %s are those of plain ops', (name, f, samples) => {
      const normalize = !name.includes('not normalise');
      const plain = (a: Tensor, w1: Tensor | null, w2: Tensor | null) => {
        const part = (i: number) =>
          a
            .reshape([batch, tokens, 3, heads, dim])
            .slice([0, 0, i], [batch, tokens, i + 1])
            .reshape([batch, tokens, heads, dim]);
        const norm = (y: Tensor, w: Tensor | null) => {
          if (!normalize) return y;
          const unit = y.div(y.square().mean(-1, { keepDims: true }).add(1e-6).sqrt());
          return w ? unit.mul(w) : unit;
        };
        return [norm(part(0), w1), norm(part(1), w2), part(2)];
      };
      const g = (...inputs: Tensor[]) =>
        name.includes('only the keys')
          ? mixed([plain(inputs[0]!, null, inputs[1]!)[1]!])
          : mixed(plain(inputs[0]!, inputs[1] ?? null, inputs[2] ?? null));
      const directions = samples.map(({ shape }, i) => upload(sample(shape, 40 + i)));
      const all = samples.map((_, i) => i);
      const third = (of: typeof f) => {
        const along = (...at: Tensor[]) => jvp(of, at, directions)[1];
        const twice = (...at: Tensor[]) => jvp(along, at, directions)[1];
        return grad(twice, { argnums: all })(...samples.map(upload)) as Tensor[];
      };
      const expected = third(g);
      for (const [i, found] of third(f).entries()) {
        expect(relativeError(found.dataSync(), expected[i]!.dataSync())).toBeLessThan(1e-12);
      }
    });
  });
});
