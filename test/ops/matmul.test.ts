// Matrix products and linear layers on every device: values in every dtype against plain loops, derivatives to second
// order, gradients of values and tangents together against plain loops, absent operands, refusals.
import fc from 'fast-check';
import { ArgumentError, setMatmulPrecision, type Tensor } from '../../lib';
import { linearJvp, linearJvpVjp } from '../../lib/ops/matmul';
import { relativeError, type Sample, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { floatingDTypes, tolerances } from '../support/tolerances';

function product(a: Float64Array, b: Float64Array, m: number, n: number, k: number): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) for (let p = 0; p < k; p++) c[i * n + j]! += a[i * k + p]! * b[p * n + j]!;
  return c;
}

describeOnDevices('matmul', (device) => {
  const { checkOp, linear, matmul, ones, tensor, zeros } = on(device);

  it.each([
    [1, 1, 1],
    [3, 5, 7],
    [17, 33, 9],
    [64, 65, 300],
    [4, 100, 513],
    [1, 72, 100],
    [7, 1, 1152],
    [72, 100, 1],
  ])('multiplies %i × %i over %i', (m, n, k) => {
    checkOp((a, b) => matmul(a!, b!), [sample([m, k], 1), sample([k, n], 2)], {
      reference: (a, b) => product(a, b, m, n, k),
    });
  });

  it('reads transposed arguments', () => {
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.boolean(),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 0, max: 20 }),
        (ta, tb, m, n, k) => {
          const [a, b] = [sample([m, k], m), sample([k, n], n)].map(({ values, shape }) =>
            tensor(Float64Array.from(Array.from(values)), { shape }),
          );
          const plain = matmul(a!, b!).dataSync();
          const turned = matmul(ta ? a!.transpose() : a!, tb ? b!.transpose() : b!, { transposeA: ta, transposeB: tb });
          expect(relativeError(turned.dataSync(), plain)).toBeLessThan(1e-13);
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each([
    [true, false],
    [false, true],
    [true, true],
  ])('differentiates with transposes %s, %s', (transposeA, transposeB) => {
    checkOp(
      (a, b) => matmul(a!, b!, { transposeA, transposeB }),
      [sample(transposeA ? [5, 4] : [4, 5], 1), sample(transposeB ? [6, 5] : [5, 6], 2)],
    );
  });

  it.each([
    [
      [2, 3, 4, 5],
      [5, 6],
    ],
    [
      [3, 4, 5],
      [2, 3, 5, 6],
    ],
    [
      [2, 1, 4, 5],
      [1, 3, 5, 6],
    ],
    [
      [40, 4, 5],
      [40, 5, 6],
    ],
  ])('broadcasts leading axes of %j and %j', (a, b) => {
    checkOp((x, y) => matmul(x!, y!), [sample(a, 1), sample(b, 2)]);
  });

  it('gives zeros over an empty inner axis, and nothing over empty outer ones', () => {
    expect([...matmul(zeros([2, 0]), zeros([0, 2])).dataSync()]).toEqual([0, 0, 0, 0]);
    expect(matmul(zeros([0, 3]), zeros([3, 2])).shape).toEqual([0, 2]);
  });

  it('is the same on every run', () => {
    const [a, b] = [sample([300, 200], 1), sample([200, 100], 2)].map(({ values, shape }) =>
      tensor(Float32Array.from(Array.from(values)), { shape }),
    );
    expect([...matmul(a!, b!).dataSync()]).toEqual([...matmul(a!, b!).dataSync()]);
  });

  it.each([
    [
      'inner sizes that differ',
      () => matmul(ones([2, 3]), ones([4, 2])),
      /matmul: the inner sizes must agree, got 3 and 4/,
    ],
    ['vectors', () => matmul(ones([3]), ones([3, 2])), /matmul: a must have rank at least 2/],
    ['batches that do not broadcast', () => matmul(ones([2, 3, 3]), ones([4, 3, 3])), /matmul: .*broadcast/],
    ['integers', () => matmul(ones([2, 2], { dtype: 'int32' }), ones([2, 2], { dtype: 'int32' })), /floating/],
    ['a weight of other width', () => linear(ones([2, 3]), ones([4, 5])), /linear: weight must have shape \[out, 3\]/],
    [
      'a bias of other width',
      () => linear(ones([2, 3]), ones([4, 3]), ones([3])),
      /linear: bias must have shape \[4\]/,
    ],
  ])('refuses %s', (_, call, message) => {
    expect(call).toThrow(message);
  });
});

describeOnDevices('linear', (device) => {
  const { checkOp, linear, matmul, tensor } = on(device);

  it.each([
    [[7], 5, 3],
    [[4, 3], 96, 33],
    [[1], 1, 1],
    [[0], 4, 2],
    [[130], 64, 17],
  ])('is x weightᵀ + bias for rows %j, %i in, %i out', (rows, inputs, outputs) => {
    const operands = [sample([...rows, inputs], 1), sample([outputs, inputs], 2), sample([outputs], 3)];
    checkOp((x, w, b) => linear(x!, w!, b!), operands);
    checkOp((x, w) => linear(x!, w!), operands.slice(0, 2));
    const [x, w, b] = operands.map(({ values, shape }) => tensor(Float64Array.from(Array.from(values)), { shape }));
    const plain = matmul(x!, w!, { transposeB: true }).add(b!);
    expect(relativeError(linear(x!, w!, b!).dataSync(), plain.dataSync())).toBeLessThan(1e-13);
  });

  it('differentiates by each argument alone', () => {
    const [x, w, b] = [sample([4, 6], 1), sample([5, 6], 2), sample([5], 3)].map(({ values, shape }) =>
      tensor(Float64Array.from(Array.from(values)), { shape }),
    );
    const checks: [(t: Tensor) => Tensor, Tensor][] = [
      [(t) => linear(t, w!, b!), x!],
      [(t) => linear(x!, t, b!), w!],
      [(t) => linear(x!, w!, t), b!],
    ];
    for (const [f, at] of checks)
      checkOp((t) => f(t!), [{ shape: at.shape, values: at.dataSync() }], { dtypes: ['float64'] });
  });
});
