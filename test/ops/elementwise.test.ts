import fc from 'fast-check';
import * as lib from '../../lib';
import { ArgumentError, DeviceError, DTypeError, ShapeError, type Tensor } from '../../lib';
import { native } from '../../lib/native';
import { relativeError, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { tolerances } from '../support/tolerances';

describeOnDevices('elementwise operations', (device) => {
  const fm = on(device);
  const { checkOp, tensor } = fm;

  type Binary = (a: Tensor | number, b: Tensor | number) => Tensor;
  const ops: Record<string, unknown> = { ...fm };
  const values = (x: Tensor) => Array.from(x.dataSync());
  const float64 = (data: readonly number[]) => tensor(Float64Array.from(data));

  it('give what is known of their results where nobody has asked the addon', () => {
    const shapes = [[], [1], [3], [2, 3], [2, 1], [0, 1, 3]];
    const both = ['add', 'sub', 'mul', 'div', 'pow', 'maximum', 'minimum'];
    const single = ['neg', 'abs', 'sign', 'square', 'sqrt', 'exp', 'floor', 'sigmoid', 'silu', 'gelu'];
    const expectKnown = (y: Tensor) => {
      const { shape, dtype, device: place } = native.info(y._handle);
      expect({ shape: y.shape, dtype: y.dtype, device: y.device }).toEqual({ shape, dtype, device: place });
    };
    for (const dtype of ['float32', 'bfloat16'] as const) {
      const all = shapes.map((shape) => fm.ones(shape, { dtype }));
      for (const a of all) {
        for (const name of single) expectKnown((ops[name] as (x: Tensor) => Tensor)(a));
        expectKnown(fm.clamp(a, { low: 0 }));
        for (const name of both) {
          expectKnown((ops[name] as Binary)(a, 2));
          expectKnown((ops[name] as Binary)(2, a));
          for (const b of all) expectKnown((ops[name] as Binary)(a, b));
        }
      }
    }
    const comparison = fm.greater(fm.ones([2]), fm.ones([2]));
    expect(comparison.dtype).toBe('bool');
  });

  describe('functions of one argument', () => {
    const everywhere = { low: -3, high: 3 };
    const positive = { low: 0.1, high: 4 };
    const cases: [keyof typeof lib, (x: number) => number, { low: number; high: number }][] = [
      ['neg', (x) => -x, everywhere],
      ['square', (x) => x * x, everywhere],
      ['sqrt', Math.sqrt, positive],
      ['rsqrt', (x) => 1 / Math.sqrt(x), positive],
      ['reciprocal', (x) => 1 / x, positive],
      ['exp', Math.exp, everywhere],
      ['expm1', Math.expm1, everywhere],
      ['log', Math.log, positive],
      ['log1p', Math.log1p, positive],
      ['sin', Math.sin, everywhere],
      ['cos', Math.cos, everywhere],
      ['tanh', Math.tanh, everywhere],
      ['sigmoid', (x) => 1 / (1 + Math.exp(-x)), everywhere],
      ['abs', Math.abs, positive],
    ];

    it.each(cases)('%s has the value and the derivatives of its formula', (name, formula, range) => {
      const op = ops[name] as (x: Tensor) => Tensor;
      for (const shape of [[1], [7], [3, 37]]) {
        checkOp(op, [sample(shape, 3, range)], { reference: (x) => x.map(formula) });
      }
    });

    it('takes float32 exponentials to within an ulp with AVX-512, and elsewhere to within four', () => {
      if (device !== 'cpu') return;
      const bits = Uint32Array.from({ length: 1 << 19 }, (_, i) => (i % 2) * 2 ** 31 + (i >>> 1) * 4337);
      const x = new Float32Array(bits.buffer).filter((v) => v > -87 && v < 88.7);
      expect(x.length).toBeGreaterThan(400_000);
      const got = lib.exp(lib.tensor(x)).dataSync();
      const ulps = Array.from(got, (y, i) => {
        const expected = Math.exp(x[i]!);
        return Math.abs(y - expected) / 2 ** (Math.floor(Math.log2(expected)) - 23);
      });
      expect(ulps.reduce((a, b) => Math.max(a, b), 0)).toBeLessThan(lib.features().simd === 'AVX3' ? 1 : 4);
    });

    it.each([
      ['exp', Math.exp, [-1e30, -745, -200, -104, -87.5, -0, 0, 88.7, 89, 700, 709.7, 710, 1e30]],
      ['expm1', Math.expm1, [-1e30, -745, -40, -1e-10, -1e-300, -0, 0, 1e-300, 1e-8, 700, 710, 1e30]],
      ['log', Math.log, [5e-324, 1e-310, 1e-300, 0.5, 1, 1 + 1e-9, 1e300, 0, -0, -1]],
      ['log1p', Math.log1p, [-1, -0.999, -1e-10, -0, 0, 1e-300, 1e-10, 1e300, -2]],
      ['sin', Math.sin, [0, -0, 1e-300, 3, Math.PI, 38999, 39001, -1e6, 1e15]],
      ['cos', Math.cos, [0, -0, 1e-300, 3, Math.PI / 2, 38999, 39001, -1e6, 1e15]],
      ['tanh', Math.tanh, [0, -0, 1e-300, -1e-8, 0.3, -18, 19, 400, 1e300]],
      ['sigmoid', (x: number) => 1 / (1 + Math.exp(-x)), [0, -0, -800, -709, -40, 40, 800]],
      ['sqrt', Math.sqrt, [0, -0, 5e-324, 2, 1e300, -1]],
      ['floor', Math.floor, [0, -0, -0.5, 0.5, 2.5, -2.5, 1e300]],
      ['sign', Math.sign, [0, -0, -3, 5e-324]],
    ] as [keyof typeof lib, (x: number) => number, number[]][])(
      '%s is right at the edges of its range',
      (name, formula, edges) => {
        const all = [...edges, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
        const got = values((ops[name] as (x: Tensor) => Tensor)(float64(all)));
        for (const [i, x] of all.entries()) {
          const expected = formula(x);
          if (Number.isFinite(expected) && expected !== 0) {
            // A subnormal result has few bits to be right in.
            expect(Math.abs(got[i]! - expected)).toBeLessThanOrEqual(4e-15 * Math.abs(expected) + 1e-307);
          } else {
            expect([name, x, got[i]]).toEqual([name, x, expected]);
          }
        }
      },
    );

    it('gives an element the same bits wherever it stands', () => {
      const data = sample([133], 5).values;
      const x = tensor(Float32Array.from(data));
      for (const op of [fm.exp, fm.tanh, fm.sin, fm.log1p, fm.sigmoid]) {
        const whole = values(op(x));
        for (const at of [0, 1, 15, 16, 63, 64, 129, 132]) {
          expect(op(tensor(Float32Array.of(data[at]!))).itemSync()).toBe(whole[at]);
        }
      }
    });

    it('takes int32 where the result is exact, and refuses it elsewhere', () => {
      const x = tensor([-3, 0, 7, -(2 ** 31)], { dtype: 'int32' });
      expect(values(fm.neg(x))).toEqual([3, 0, -7, -(2 ** 31)]);
      expect(values(fm.abs(x))).toEqual([3, 0, 7, -(2 ** 31)]);
      expect(values(fm.sign(x))).toEqual([-1, 0, 1, -1]);
      expect(values(fm.square(x))).toEqual([9, 0, 49, 0]);
      expect(() => fm.exp(x)).toThrow(DTypeError);
      expect(() => fm.neg(tensor([true]))).toThrow('neg: x must be float32');
    });
  });

  describe('functions of two arguments', () => {
    const signed = { low: -2, high: 2 };
    const positive = { low: 0.3, high: 2 };
    const cases: [keyof typeof lib, (a: number, b: number) => number, { low: number; high: number }][] = [
      ['add', (a, b) => a + b, signed],
      ['sub', (a, b) => a - b, signed],
      ['mul', (a, b) => a * b, signed],
      ['div', (a, b) => a / b, positive],
      ['pow', (a, b) => a ** b, positive],
      ['maximum', Math.max, signed],
      ['minimum', Math.min, signed],
    ];

    it.each(cases)('%s broadcasts, with the derivatives of its formula', (name, formula, range) => {
      const op = ops[name] as Binary;
      checkOp((a, b) => op(a, b), [sample([5, 13], 1, range), sample([5, 13], 2, range)], {
        reference: (a, b) => a.map((x, i) => formula(x, b[i]!)),
      });
      for (const [a, b] of [
        [[4, 33], [33]],
        [
          [2, 1, 17],
          [2, 5, 17],
        ],
        [
          [6, 1],
          [1, 7],
        ],
        [[], [3, 2]],
        [
          [3, 1, 2],
          [4, 1],
        ],
      ]) {
        checkOp((x, y) => op(x, y), [sample(a!, 1, range), sample(b!, 2, range)]);
      }
    });

    it.each(cases)('%s takes a number on either side', (name, formula, range) => {
      const op = ops[name] as Binary;
      for (const scalar of [2, 3, -1, 0.5, 1]) {
        checkOp((a) => op(a, scalar), [sample([3, 11], 4, range)], {
          reference: (a) => a.map((x) => formula(x, scalar)),
        });
        if (name === 'pow' && scalar < 0) continue;
        checkOp((b) => op(scalar, b), [sample([3, 11], 4, range)], {
          reference: (b) => b.map((x) => formula(scalar, x)),
        });
      }
    });

    it('agrees with plain loops for any two shapes that broadcast', () => {
      const axis = fc.constantFrom(1, 2, 3, 5, 33, 40);
      const shapes = fc
        .array(fc.tuple(axis, fc.constantFrom('both', 'a', 'b')), { maxLength: 4 })
        .chain((axes) => fc.tuple(fc.constant(axes), fc.nat(axes.length), fc.nat(axes.length)));
      fc.assert(
        fc.property(
          shapes,
          fc.constantFrom('float32', 'float64', 'bfloat16', 'int32'),
          ([axes, dropA, dropB], dtype) => {
            const kept = axes.length === 0 ? 0 : Math.min(dropA, dropB) === 0 ? axes.length : axes.length;
            const a = axes.map(([size, who]) => (who === 'b' ? 1 : size)).slice(axes.length - Math.max(dropA, 0), kept);
            const b = axes.map(([size, who]) => (who === 'a' ? 1 : size)).slice(axes.length - Math.max(dropB, 0), kept);
            const whole = (shape: number[]) => shape.reduce((x, y) => x * y, 1);
            if (whole(a) * whole(b) > 1e5) return;
            const fill = (shape: number[], seed: number) =>
              Array.from({ length: whole(shape) }, (_, i) => ((i * seed) % 23) - 11);
            const [av, bv] = [fill(a, 7), fill(b, 5)];
            const y = fm.sub(
              tensor(av, { shape: a, dtype: dtype as lib.DType }),
              tensor(bv, { shape: b, dtype: dtype as lib.DType }),
            );
            const rank = Math.max(a.length, b.length);
            const shape = Array.from({ length: rank }, (_, i) =>
              Math.max(a[i - rank + a.length] ?? 1, b[i - rank + b.length] ?? 1),
            );
            expect(y.shape).toEqual(shape);
            const at = (own: number[], index: number[]) =>
              own.reduce((offset, size, i) => offset * size + (size === 1 ? 0 : index[i + rank - own.length]!), 0);
            const expected = Array.from({ length: whole(shape) }, (_, flat) => {
              const index = new Array<number>(rank);
              for (let i = rank - 1, rest = flat; i >= 0; i--) {
                index[i] = rest % shape[i]!;
                rest = Math.floor(rest / shape[i]!);
              }
              return av[at(a, index)]! - bv[at(b, index)]!;
            });
            expect(values(y)).toEqual(expected);
          },
        ),
        { numRuns: 300 },
      );
    });

    it('agrees with itself above and below the size at which threads share the work', () => {
      const n = 100_003;
      const a = Float32Array.from({ length: n }, (_, i) => Math.fround(Math.sin(i)));
      const row = Float32Array.from({ length: 7 }, (_, i) => i + 0.5);
      expect(fm.mul(tensor(a), 3).dataSync()).toEqual(a.map((x) => x * 3));
      const table = fm.add(tensor(a.subarray(0, 70_000), { shape: [10_000, 7] }), tensor(row));
      expect(table.dataSync()).toEqual(a.subarray(0, 70_000).map((x, i) => x + row[i % 7]!));
    });

    it('follows IEEE for division by zero, and spreads NaN from maximum and minimum', () => {
      expect(values(fm.div(float64([1, -1, 0]), float64([0, 0, 0])))).toEqual([Infinity, -Infinity, Number.NaN]);
      expect(values(fm.div(float64([1, -1]), 0))).toEqual([Infinity, -Infinity]);
      for (const op of [fm.maximum, fm.minimum]) {
        expect(values(op(float64([Number.NaN, 1, 2]), float64([1, Number.NaN, 3])))).toEqual([
          Number.NaN,
          Number.NaN,
          op === fm.maximum ? 3 : 2,
        ]);
        expect(values(op(float64([Number.NaN, 1]), 5))[0]).toBeNaN();
        expect(values(op(float64([4]), Number.NaN))[0]).toBeNaN();
      }
    });

    it('wraps int32, refuses to divide it and to mix it with fractions', () => {
      const a = tensor([2 ** 31 - 1, -5], { dtype: 'int32' });
      expect(values(fm.add(a, 1))).toEqual([-(2 ** 31), -4]);
      expect(values(fm.mul(a, tensor([2, 3], { dtype: 'int32' })))).toEqual([-2, -15]);
      expect(values(fm.maximum(a, 0))).toEqual([2 ** 31 - 1, 0]);
      expect(() => fm.div(a, 0)).toThrow(DTypeError);
      expect(() => fm.add(a, 0.5)).toThrow('add: b must be a 32-bit integer');
      expect(() => fm.sub(Number.NaN, a)).toThrow('sub: a must be a 32-bit integer');
    });

    it('has finite derivatives of powers at zero', () => {
      const zero = float64([0]);
      expect(
        fm
          .grad((x: Tensor) => fm.pow(x, 2).sum())(zero)
          .itemSync(),
      ).toBe(0);
      expect(
        fm
          .grad((x: Tensor) => fm.pow(x, 0).sum())(zero)
          .itemSync(),
      ).toBe(0);
      const [ga, gb] = fm.grad((a: Tensor, b: Tensor) => fm.pow(a, b).sum(), { argnums: [0, 1] })(zero, float64([0]));
      expect([ga.itemSync(), gb.itemSync()]).toEqual([0, 0]);
    });

    it('names the op, the argument and both shapes or types', () => {
      expect(() => fm.add(fm.ones([2, 3]), fm.ones([4]))).toThrow(ShapeError);
      expect(() => fm.add(fm.ones([2, 3]), fm.ones([4]))).toThrow('got [2, 3] and [4]');
      expect(() => fm.mul(fm.ones([2]), fm.ones([2], { dtype: 'float64' }))).toThrow(
        'mul: b must be float32, got float64',
      );
      expect(() => fm.add('x' as unknown as Tensor, fm.ones([1]))).toThrow(ArgumentError);
    });
  });

  describe('clamp', () => {
    it('bounds values on either side or both, keeps NaN, and differentiates inside', () => {
      const x = float64([-5, -1, 0.5, 1, 9, Number.NaN]);
      expect(values(fm.clamp(x, { low: -1, high: 1 }))).toEqual([-1, -1, 0.5, 1, 1, Number.NaN]);
      expect(values(x.clamp({ low: 0 }))).toEqual([0, 0, 0.5, 1, 9, Number.NaN]);
      expect(values(fm.clamp(tensor([-5, 3, 9], { dtype: 'int32' }), { high: 4 }))).toEqual([-5, 3, 4]);
      checkOp((y) => fm.clamp(y, { low: -0.7, high: 0.9 }), [sample([41], 8)]);
      expect(() => fm.clamp(x, { low: 2, high: 1 })).toThrow('clamp: low must be at most high');
    });
  });

  describe('cast', () => {
    it('rounds to the nearest 16-bit float, ties to even, over the whole range', () => {
      // Integer arithmetic of its own: scale so that the last kept bit is worth 1, and round there.
      const toHalf = (x: number, mantissa: number, lowest: number, largest: number) => {
        if (!Number.isFinite(x) || x === 0) return x;
        const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), lowest);
        const unit = 2 ** (exponent - mantissa);
        const scaled = Math.abs(x) / unit;
        const down = Math.floor(scaled);
        const rest = scaled - down;
        const rounded = rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
        const result = Math.sign(x) * rounded * unit;
        return Math.abs(result) > largest ? Math.sign(x) * Infinity : result;
      };
      const data = [
        0, 1, -1, 1.00390625, 1.01171875, 65504, 65519, 65520, 1e-8, 6e-8, 2.9e-8, 6.1e-5, 3.3895314e38, 3.4e38, 1e-40,
      ];
      for (let i = 0; i < 3000; i++)
        data.push((i % 2 ? -1 : 1) * 2 ** ((i % 60) - 30) * (1 + ((i * 2654435761) % 4096) / 4096));
      const x = tensor(Float32Array.from(data));
      const stored = values(x);
      expect(values(x.to({ dtype: 'bfloat16' }))).toEqual(stored.map((v) => toHalf(v, 7, -126, 3.3895313892515355e38)));
      expect(values(x.to({ dtype: 'float16' }))).toEqual(stored.map((v) => toHalf(v, 10, -14, 65504)));
      const odd = tensor([Number.NaN, Infinity, -Infinity, -0]);
      for (const dtype of ['bfloat16', 'float16', 'float64'] as const)
        expect(values(odd.to({ dtype }))).toEqual(values(odd));
    });

    it('truncates floats to int32 within its range, and takes all but zero as true', () => {
      const x = tensor([1.9, -1.9, 3e9, -3e9, Number.NaN, Infinity, 0]);
      expect(values(x.to({ dtype: 'int32' }))).toEqual([1, -1, 2 ** 31 - 1, -(2 ** 31), 0, 2 ** 31 - 1, 0]);
      expect(values(x.to({ dtype: 'bool' }))).toEqual([1, 1, 1, 1, 1, 1, 0]);
      expect(values(tensor([true, false]).to({ dtype: 'bfloat16' }))).toEqual([1, 0]);
      expect(values(tensor([7, -7], { dtype: 'int32' }).to({ dtype: 'float16' }))).toEqual([7, -7]);
    });

    it('agrees with the CPU for every pair of types', () => {
      const dtypes = ['float32', 'float64', 'bfloat16', 'float16', 'int32', 'bool'] as const;
      const data = [0, -0, 1, -1, 0.1, -2.5, 3.5, 65519, 65520, -1e-8, 2 ** 31 - 64, 2 ** 31, -(2 ** 31), 1e39, -1e300];
      const all = [...data, Number.NaN, Infinity, -Infinity];
      for (const from of dtypes) {
        const source = lib.tensor(Float64Array.from(all)).to({ dtype: from });
        const x = tensor(source.dataSync(), { dtype: from });
        for (const to of dtypes) expect(values(x.to({ dtype: to }))).toEqual(values(source.to({ dtype: to })));
      }
    });

    it('carries derivatives between floating types', () => {
      const x = tensor(sample([9], 1).values as Float64Array);
      const g = fm.grad((y: Tensor) =>
        fm
          .square(y.to({ dtype: 'float32' }))
          .sum()
          .to({ dtype: 'float64' }),
      )(x);
      expect(g.dtype).toBe('float64');
      expect(
        relativeError(
          g.dataSync(),
          x.dataSync().map((v) => 2 * v),
        ),
      ).toBeLessThan(tolerances.float32);
      expect(() => x.to({ device: 'cuda:99' })).toThrow(DeviceError);
      expect(() => x.to({ device: 'moon' })).toThrow("got 'moon'");
    });
  });
});
