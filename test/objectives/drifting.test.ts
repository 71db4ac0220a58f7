// Drifting: the field against its formula and its symmetries, the loss against the gradient it is made for, guards.
import {
  ArgumentError,
  concat,
  DTypeError,
  driftingField,
  driftingLoss,
  Generator,
  grad,
  jvp,
  memory,
  NumericalError,
  nn,
  randn,
  ShapeError,
  sampleFlowMap,
  type Tensor,
  tensor,
  zeros,
} from '../../lib';
import { relativeError, sample } from '../support/checkOp';
import { makeBatch, makeNet } from '../support/tinyDit';

type Kernel = 'laplace' | 'rbf' | 'imq';
const kernels: Kernel[] = ['laplace', 'rbf', 'imq'];

const points = (shape: number[], seed: number, dtype: 'float32' | 'float64' = 'float64') =>
  tensor(Float64Array.from(Array.from(sample(shape, seed).values)), { shape, dtype });

// The formula in numbers, of one group and one bandwidth: kernels as they are, without care for their size.
function pullOf(at: number[], others: number[][], kernel: Kernel, h: number): number[] {
  const dim = at.length;
  const weights = others.map((other) => {
    const d = Math.max(Math.hypot(...other.map((value, i) => value - at[i]!)), 1e-8);
    if (kernel === 'laplace') return Math.exp(-d / (h * dim));
    return kernel === 'rbf' ? Math.exp((-d * d) / (2 * h * h * dim)) : (1 + (d * d) / (h * h * dim)) ** -0.5;
  });
  const total = weights.reduce((a, b) => a + b, 0);
  return at.map((value, i) => others.reduce((sum, other, j) => sum + weights[j]! * (other[i]! - value), 0) / total);
}

function rows(x: Tensor): number[][][] {
  const [groups, count, dim] = x.shape as [number, number, number];
  const values = x.dataSync();
  return Array.from({ length: groups }, (_, g) =>
    Array.from({ length: count }, (_, i) => [
      ...values.slice((g * count + i) * dim, (g * count + i + 1) * dim),
    ]) as number[][],
  );
}

function fieldOf(y: Tensor, x: Tensor, kernel: Kernel, bandwidths: number[]): number[] {
  return rows(y).flatMap((particles, g) =>
    particles.flatMap((at, i) => {
      const others = particles.filter((_, j) => j !== i);
      const each = bandwidths.map((h) => {
        const away = others.length > 0 ? pullOf(at, others, kernel, h) : at.map(() => 0);
        return pullOf(at, rows(x)[g]!, kernel, h).map((value, k) => value - away[k]!);
      });
      return at.map((_, k) => each.reduce((sum, one) => sum + one[k]!, 0) / bandwidths.length);
    }),
  );
}

describe('driftingField', () => {
  it.each(kernels)('is its formula, for any number of particles and bandwidths: %s', (kernel) => {
    for (const [m, n, d] of [
      [4, 4, 3],
      [1, 5, 7],
      [2, 1, 1],
      [7, 3, 17],
    ] as const) {
      const [y, x] = [points([3, m, d], 1), points([3, n, d], 2)];
      for (const bandwidths of [[1], [0.05, 0.4, 3]]) {
        const V = driftingField(y, x, { kernel, bandwidths });
        expect(V.shape).toEqual([3, m, d]);
        expect(relativeError(V.dataSync(), fieldOf(y, x, kernel, bandwidths))).toBeLessThan(1e-12);
      }
    }
    const [y, x] = [points([2, 3, 4], 3), points([2, 3, 4], 4)];
    const plain = driftingField(y, x, { kernel }).dataSync();
    expect(relativeError(plain, fieldOf(y, x, kernel, [1]))).toBeLessThan(1e-12);
  });

  it.each(kernels)('changes its sign where what attracts and what repels change places: %s', (kernel) => {
    const [query, a, b] = [points([2, 1, 5], 1), points([2, 3, 5], 2), points([2, 3, 5], 3)];
    const first = (V: Tensor) => V.slice([0, 0], [2, 1]);
    const forth = first(driftingField(concat([query, a], 1), b, { kernel }));
    const back = first(driftingField(concat([query, b], 1), a, { kernel }));
    expect(relativeError(forth.dataSync(), back.mul(-1).dataSync())).toBeLessThan(1e-13);
    const balanced = first(driftingField(concat([query, a], 1), a, { kernel }));
    expect(Math.max(...balanced.abs().dataSync())).toBeLessThan(1e-15);
  });

  it.each(kernels)('of a set to itself is the share of the self term of its repulsion: %s', (kernel) => {
    // Attraction has the particle itself among its targets, with kernel one and difference zero; repulsion leaves it out.
    const y = points([1, 4, 3], 5);
    const particles = rows(y)[0]!;
    const h = 0.7;
    const expected = particles.flatMap((at, i) => {
      const others = particles.filter((_, j) => j !== i);
      const away = pullOf(at, others, kernel, h);
      const near = pullOf(at, particles, kernel, h);
      const share = 1 - near[0]! / away[0]!;
      return away.map((value) => -share * value);
    });
    const V = driftingField(y, y, { kernel, bandwidths: [h] });
    expect(relativeError(V.dataSync(), expected)).toBeLessThan(1e-11);
    const sharp = driftingField(y, y.copy(), { kernel: 'rbf', bandwidths: [1e4] });
    const flat = driftingField(y, y.copy(), { kernel: 'rbf', bandwidths: [2e4] });
    // In the limit of a flat kernel the field is (mean − y) − (mean of the others − y), a quarter of the repulsion.
    expect(relativeError(sharp.dataSync(), flat.dataSync())).toBeLessThan(1e-6);
  });

  it('vanishes on average where particles and data have one law', () => {
    const generator = new Generator(3);
    const [y, x] = [randn([4000, 4, 2], { generator }), randn([4000, 4, 2], { generator })];
    const V = driftingField(y, x, { kernel: 'rbf' }).mean([0, 1]).dataSync();
    expect(Math.max(...V.map(Math.abs))).toBeLessThan(0.03);
  });

  it.each(kernels)('draws far particles to the data, whatever the distance: %s', (kernel) => {
    for (const distance of [10, 1e4]) {
      for (const dtype of ['float32', 'float64'] as const) {
        const x = points([2, 4, 3], 1, dtype);
        const y = points([2, 4, 3], 2, dtype).add(tensor([distance, 0, 0], { dtype }));
        const V = driftingField(y, x, { kernel, bandwidths: [1e-3, 1] });
        expect(V.dtype).toBe(dtype);
        const along = V.dataSync();
        expect([...along].every(Number.isFinite)).toBe(true);
        const before = [...y.dataSync()].filter((_, i) => i % 3 === 0);
        before.forEach((from, i) => expect(Math.abs(from + along[3 * i]!)).toBeLessThan(0.5 * distance + 4));
      }
    }
  });

  it.each(kernels)('moves with its particles, and is finite where they coincide: %s', (kernel) => {
    const [y, x] = [points([2, 4, 3], 1), points([2, 5, 3], 2)];
    const by = tensor([3, -5, 0.5], { dtype: 'float64' });
    const [here, there] = [driftingField(y, x, { kernel }), driftingField(y.add(by), x.add(by), { kernel })];
    expect(relativeError(there.dataSync(), here.dataSync())).toBeLessThan(1e-13);
    const same = zeros([1, 3, 2]);
    expect([...driftingField(same, same, { kernel }).dataSync()]).toEqual([0, 0, 0, 0, 0, 0]);
    const [pair, target] = [tensor([[[1, 2], [1, 2], [0, 0]]]), tensor([[[1, 2]]])];
    expect(relativeError(driftingField(pair, target, { kernel }).dataSync(), fieldOf(pair, target, kernel, [1]))).toBeLessThan(
      1e-6,
    );
  });

  it.each(kernels)('is in float32 what it is in float64, near particles too: %s', (kernel) => {
    for (const spread of [1, 1e-3]) {
      const wide = [1, 2].map((seed) => tensor(Float64Array.from(sample([3, 6, 33], seed).values), { shape: [3, 6, 33] }).mul(spread).add(1));
      const [y, x] = wide.map((t) => t.to({ dtype: 'float32' })) as [Tensor, Tensor];
      const exact = driftingField(y.to({ dtype: 'float64' }), x.to({ dtype: 'float64' }), { kernel, bandwidths: [0.1] });
      const V = driftingField(y, x, { kernel, bandwidths: [0.1] });
      expect(relativeError(V.dataSync(), exact.dataSync())).toBeLessThan(1e-5);
    }
    const narrow = driftingField(points([1, 2, 3], 1).to({ dtype: 'bfloat16' }), points([1, 2, 3], 2).to({ dtype: 'bfloat16' }));
    expect(narrow.dtype).toBe('float32');
  });

  it('is a constant to gradients and derivatives, and leaves nothing behind', () => {
    const [y, x] = [points([1, 3, 2], 1), points([1, 3, 2], 2)];
    const g = grad((a: Tensor, b: Tensor) => driftingField(a, b).sum().add(a.sum()), { argnums: [0, 1] } as never);
    void g;
    const gy = grad((a: Tensor) => driftingField(a, x).add(a).sum())(y) as Tensor;
    expect([...gy.dataSync()]).toEqual([1, 1, 1, 1, 1, 1]);
    const [, tangent] = jvp((a: Tensor) => driftingField(y, a), [x], [x]);
    expect([...tangent.dataSync()]).toEqual([0, 0, 0, 0, 0, 0]);
    const before = memory().tensors;
    driftingField(y, x, { bandwidths: [1, 2] }).dispose();
    expect(memory().tensors).toBe(before);
  });

  it('passes on what is not a number', () => {
    const y = tensor([[[1], [Number.NaN]], [[1], [2]]]);
    const V = driftingField(y, tensor([[[0]], [[0]]])).dataSync();
    expect([...V].map(Number.isFinite)).toEqual([false, false, true, true]);
  });

  it('refuses what does not fit', () => {
    const [y, x] = [points([2, 3, 4], 1), points([2, 5, 4], 2)];
    expect(() => driftingField(points([3, 4], 1), x)).toThrow(ShapeError);
    expect(() => driftingField(y, zeros([2, 0, 4], { dtype: 'float64' }))).toThrow(ShapeError);
    expect(() => driftingField(y, points([1, 5, 4], 1))).toThrow(/x must have shape \[2, N, 4\], got \[1, 5, 4\]/);
    expect(() => driftingField(y, x.to({ dtype: 'float32' }))).toThrow(DTypeError);
    expect(() => driftingField(y.to({ dtype: 'int32' }), x)).toThrow(DTypeError);
    const refused = (options: object, message: RegExp) => {
      expect(() => driftingField(y, x, options)).toThrow(ArgumentError);
      expect(() => driftingField(y, x, options)).toThrow(message);
    };
    refused({ kernel: 'energy' }, /kernel must be one of laplace, rbf, imq, got 'energy'/);
    refused({ kernel: 'toString' }, /kernel must be one of/);
    refused({ bandwidths: [] }, /bandwidths must be a list/);
    refused({ bandwidths: [1, Number.NaN] }, /a bandwidth must be .* got NaN/);
    refused({ bandwidths: [0] }, /a bandwidth must be .* above 0, got 0/);
    refused({ eps: -1 }, /eps must be .* got -1/);
  });
});
