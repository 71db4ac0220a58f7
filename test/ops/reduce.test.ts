import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import type * as library from '../../lib';
import { ShapeError, type Tensor } from '../../lib';
import { relativeError, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

describeOnDevices('reductions', (device) => {
  const fm = on(device);
  const { checkOp, tensor } = fm;

  const values = (x: Tensor) => Array.from(x.dataSync());

  /** Reduces nested loops' worth of plain numbers: the slow definition. */
  function naive(
    data: ArrayLike<number>,
    shape: readonly number[],
    axes: readonly number[],
    fold: (all: number[]) => number,
  ) {
    const groups = new Map<string, number[]>();
    for (let flat = 0; flat < data.length; flat++) {
      const index: number[] = [];
      for (let i = shape.length - 1, rest = flat; i >= 0; i--) {
        index.unshift(axes.includes(i) ? 0 : rest % shape[i]!);
        rest = Math.floor(rest / shape[i]!);
      }
      const key = index.join();
      groups.set(key, [...(groups.get(key) ?? []), data[flat]!]);
    }
    return [...groups.values()].map(fold);
  }

  const total = (all: number[]) => all.reduce((a, b) => a + b, 0);

  describe('sum, mean, max and min', () => {
    const layouts: [number[], number[]][] = [
      [[17], [0]],
      [[5, 33], [1]],
      [[5, 33], [0]],
      [[3, 5, 7], [1]],
      [
        [3, 5, 7],
        [0, 2],
      ],
      [
        [2, 3, 4, 5],
        [0, 3],
      ],
      [[4, 1, 3], [1]],
      [[], []],
    ];

    it.each(layouts)('of %j over %j have the derivatives of their definition', (shape, axes) => {
      for (const keepDims of [false, true]) {
        const x = sample(shape, 11);
        checkOp((y) => fm.sum(y, axes, { keepDims }), [x], { reference: (v) => naive(v, shape, axes, total) });
        checkOp((y) => fm.mean(y, axes, { keepDims }), [x], {
          reference: (v) => naive(v, shape, axes, (all) => total(all) / all.length),
          slack: 2, // a mean near zero of values near one loses digits of the stored values, not of the op
        });
        // 16-bit inputs tie, and at a tie the derivative is not defined; values are checked in all types.
        checkOp((y) => fm.max(y, axes, { keepDims }), [x], {
          reference: (v) => naive(v, shape, axes, (a) => Math.max(...a)),
        });
        checkOp((y) => fm.min(y, axes, { keepDims }), [x], {
          reference: (v) => naive(v, shape, axes, (a) => Math.min(...a)),
        });
      }
    });

    it('agree with the definition for any shape and any axes', () => {
      const cases = fc
        .array(fc.constantFrom<number>(1, 2, 3, 4, 9), { minLength: 1, maxLength: 5 })
        .chain((shape) =>
          fc.tuple(
            fc.constant(shape),
            fc.subarray([...shape.keys()]),
            fc.array(fc.integer({ min: -20, max: 20 }), { minLength: 1, maxLength: 40 }),
          ),
        );
      fc.assert(
        fc.property(cases, fc.constantFrom('float32', 'int32', 'bfloat16'), ([shape, axes, seeds], dtype) => {
          const size = shape.reduce((a, b) => a * b, 1);
          const data = Array.from({ length: size }, (_, i) => seeds[i % seeds.length]! - (i % 3));
          const x = tensor(data, { shape, dtype: dtype as library.DType });
          expect(values(fm.max(x, axes))).toEqual(naive(data, shape, axes, (a) => Math.max(...a)));
          expect(
            values(
              fm.min(
                x,
                axes.map((axis) => axis - shape.length),
              ),
            ),
          ).toEqual(naive(data, shape, axes, (a) => Math.min(...a)));
          if (dtype !== 'bfloat16')
            expect(values(fm.sum(x, axes))).toEqual(naive(data, shape, axes, (a) => total(a) + 0));
        }),
        { numRuns: 300 },
      );
    });

    it.each([
      [[300_007], [0]],
      [[3, 100_003], [1]],
      [[50_001, 5], [0]],
      [[700, 1, 129], [0]],
      [[2, 517, 600], [1]],
      [
        [37, 41, 3, 29],
        [0, 2],
      ],
    ])('of many elements %j over %j stay within float32 rounding of the exact sum', (shape, axes) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const data = Float32Array.from({ length: size }, (_, i) => Math.sin(i * 1.7) + 0.3);
      const x = tensor(data, { shape });
      const kept = shape.map((s, i) => (axes.includes(i) ? 1 : s));
      const count = kept.reduce((a, b) => a * b, 1);
      const sums = new Float64Array(count);
      const largest = new Float64Array(count).fill(-Infinity);
      for (let flat = 0; flat < size; flat++) {
        let at = 0;
        for (let i = 0, rest = flat, inner = size; i < shape.length; i++) {
          inner /= shape[i]!;
          const index = Math.floor(rest / inner);
          rest %= inner;
          at = at * kept[i]! + (axes.includes(i) ? 0 : index);
        }
        sums[at]! += data[flat]!;
        largest[at] = Math.max(largest[at]!, data[flat]!);
      }
      expect(relativeError(fm.sum(x, axes).dataSync(), sums)).toBeLessThan(1e-7);
      expect(Array.from(fm.max(x, axes).dataSync())).toEqual(Array.from(largest));
      const narrow = x.to({ dtype: 'bfloat16' });
      const wide = narrow.to({ dtype: 'float64' });
      expect(relativeError(fm.sum(narrow, axes).dataSync(), fm.sum(wide, axes).dataSync())).toBeLessThan(4e-3);
    });

    if (device === 'cpu')
      it('give the same bits on any number of threads', () => {
        const root = join(__dirname, '..', '..');
        const program = `
        const { tensor, sum, mean, sumTo, takeVjp } = require('./lib');
        const x = tensor(Float32Array.from({ length: 1e6 }, (_, i) => Math.sin(i * i)));
        const ids = tensor(Int32Array.from({ length: 1000 }, (_, i) => (i * 7) % 13));
        const results = [sum(x), mean(x.reshape([1000, 1000]), 0), sum(x.reshape([2, 500000]), 1),
          sumTo(x.reshape([100, 10, 1000]), [10, 1]), sum(x.reshape([250000, 4]), 0).to({ dtype: 'bfloat16' }),
          takeVjp(x.reshape([1000, 1000]), ids, [13, 1000])];
        console.log(results.map((y) => Buffer.from(y.dataSync().buffer).toString('hex')).join());`;
        const run = (threads: number) =>
          execFileSync(process.execPath, ['-r', './scripts/typescript.cjs', '-e', program], {
            cwd: root,
            env: { ...process.env, OMP_NUM_THREADS: String(threads) },
            maxBuffer: 2 ** 26,
          }).toString();
        const alone = run(1);
        expect(alone.length).toBeGreaterThan(1000);
        for (const threads of [2, 3, 7]) expect(run(threads) === alone).toBe(true);
      });

    it('spread NaN, share the derivative among equal extremes, and treat empty axes', () => {
      const x = tensor([
        [1, Number.NaN, 3],
        [2, 2, 1],
      ]);
      expect(values(fm.max(x, 1))).toEqual([Number.NaN, 2]);
      expect(values(fm.min(x, 0))).toEqual([1, Number.NaN, 1]);
      expect(values(fm.grad((y: Tensor) => fm.max(y))(tensor(Float64Array.of(2, 5, 5, 1))))).toEqual([0, 0.5, 0.5, 0]);
      const empty = fm.zeros([2, 0, 3]);
      expect(values(fm.sum(empty, 1))).toEqual([0, 0, 0, 0, 0, 0]);
      expect(fm.max(empty, 0).shape).toEqual([0, 3]);
      expect(() => fm.max(empty, 1)).toThrow(ShapeError);
      expect(() => fm.min(fm.zeros([0]))).toThrow('min: x must have at least one element');
      expect(fm.mean(fm.zeros([0])).itemSync()).toBeNaN();
    });

    it('count what is true, and refuse axes that are not there or twice there', () => {
      expect(fm.sum(tensor([true, false, true])).itemSync()).toBe(2);
      expect(fm.sum(tensor([true])).dtype).toBe('int32');
      expect(() => fm.sum(fm.ones([2, 3]), 2)).toThrow('sum: axes must be an axis in [-2, 2), got 2');
      expect(() => fm.mean(fm.ones([2, 3]), [0, -2])).toThrow('mean: axes must be distinct');
      expect(() => fm.mean(tensor([1, 2], { dtype: 'int32' }))).toThrow('mean: x must be a floating type');
    });
  });

  describe('argmax and argmin', () => {
    it('give the first extreme, and the first NaN above all', () => {
      const x = tensor([
        [1, 5, 5, 2],
        [3, Number.NaN, 9, Number.NaN],
      ]);
      expect(fm.argmax(x).dtype).toBe('int32');
      expect(values(fm.argmax(x))).toEqual([1, 1]);
      expect(values(fm.argmin(x))).toEqual([0, 1]);
      expect(values(x.argmax(0))).toEqual([1, 1, 1, 1]);
      expect(fm.argmax(x, 1, { keepDims: true }).shape).toEqual([2, 1]);
      expect(values(fm.argmin(tensor([4, -2, 7], { dtype: 'int32' })))).toEqual([1]);
      expect(() => fm.argmax(fm.zeros([3, 0]))).toThrow(ShapeError);
    });

    it.each([
      [[100_003], 0],
      [[30_000, 3], 0],
      [[3, 20_001], 1],
      [[2, 9_000, 5], 1],
    ])('find them in long %j along %j, the first of many equal ones', (shape, axis) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const data = Float32Array.from({ length: size }, (_, i) => (i * 7919) % 4093);
      const [n, inner] = [shape[axis]!, shape.slice(axis + 1).reduce((a, b) => a * b, 1)];
      const expected = Array.from({ length: size / n }, (_, result) => {
        const first = Math.floor(result / inner) * n * inner + (result % inner);
        let best = 0;
        for (let i = 1; i < n; i++) if (data[first + i * inner]! > data[first + best * inner]!) best = i;
        return best;
      });
      const x = tensor(data, { shape });
      expect(values(fm.argmax(x, axis))).toEqual(expected);
      expect(values(fm.argmin(fm.neg(x), axis))).toEqual(expected);
    });
  });

  describe('any and all', () => {
    it('reduce bool, with the neutral answer for nothing', () => {
      const x = tensor([
        [true, false],
        [true, true],
        [false, false],
      ]);
      expect(values(fm.any(x, 1))).toEqual([1, 1, 0]);
      expect(values(fm.all(x, 1))).toEqual([0, 1, 0]);
      expect([fm.any(x).itemSync(), fm.all(x).itemSync()]).toEqual([1, 0]);
      const nothing = fm.zeros([2, 0], { dtype: 'bool' });
      expect(values(fm.any(nothing, 1))).toEqual([0, 0]);
      expect(values(fm.all(nothing, 1))).toEqual([1, 1]);
      expect(() => fm.any(fm.ones([2]))).toThrow('any: x must be bool, got float32');
    });
  });

  describe('sumTo', () => {
    it.each([
      [
        [4, 5, 6],
        [4, 1, 6],
      ],
      [[4, 5, 6], [6]],
      [[4, 5, 6], []],
      [
        [4, 5, 6],
        [1, 5, 1],
      ],
      [
        [4, 5],
        [4, 5],
      ],
    ])('is the transpose of broadcasting %j from %j', (from, to) => {
      checkOp((x) => fm.sumTo(x, to), [sample(from, 2)]);
      checkOp((x) => fm.broadcastTo(x, from), [sample(to, 2)]);
      const [x, y] = [sample(from, 1), sample(to, 2)].map(({ shape, values: v }) =>
        tensor(v as Float64Array, { shape }),
      );
      const left = fm.mul(fm.sumTo(x!, to), y!).sum().itemSync();
      expect(fm.mul(x!, fm.broadcastTo(y!, from)).sum().itemSync()).toBeCloseTo(left, 10);
    });

    it('refuses a shape that does not broadcast', () => {
      expect(() => fm.sumTo(fm.ones([4, 5]), [2, 5])).toThrow(
        "sumTo: shape must broadcast to x's shape [4, 5], got [2, 5]",
      );
      expect(() => fm.sumTo(fm.ones([4]), [1, 4])).toThrow(ShapeError);
      expect(() => fm.sumTo(fm.ones([]), [3])).toThrow(ShapeError);
    });
  });
});
