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

const at = (x: Float64Array | null, i: number) => (x ? x[i]! : 0);

/** The shape's strides in elements, 0 along axes of size 1, for `rank` axes. */
function strides(shape: readonly number[], rank: number): number[] {
  const steps = shape.map((size, axis) => (size === 1 ? 0 : shape.slice(axis + 1).reduce((a, b) => a * b, 1)));
  return [...new Array<number>(rank - shape.length).fill(0), ...steps];
}

/** Batched products by plain loops, over factors that are not transposed. */
function batched(a: Sample, b: Sample): (x: Float64Array, y: Float64Array) => Float64Array {
  const rank = Math.max(a.shape.length, b.shape.length) - 2;
  const [left, right] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const sizes = Array.from({ length: rank }, (_, i) =>
    Math.max(left[i - rank + left.length] ?? 1, right[i - rank + right.length] ?? 1),
  );
  const [m, k, n] = [a.shape.at(-2)!, a.shape.at(-1)!, b.shape.at(-1)!];
  const [stepA, stepB] = [strides(left, rank), strides(right, rank)];
  return (x, y) => {
    const parts: number[] = [];
    const count = sizes.reduce((p, q) => p * q, 1);
    for (let batch = 0; batch < count; batch++) {
      let [rest, atA, atB] = [batch, 0, 0];
      for (let axis = rank - 1; axis >= 0; axis--) {
        const index = rest % sizes[axis]!;
        rest = (rest - index) / sizes[axis]!;
        atA += index * stepA[axis]!;
        atB += index * stepB[axis]!;
      }
      parts.push(
        ...product(x.subarray(atA * m * k, (atA + 1) * m * k), y.subarray(atB * k * n, (atB + 1) * k * n), m, n, k),
      );
    }
    return Float64Array.from(parts);
  };
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

  it.each([
    [
      [2, 3, 7, 33],
      [3, 33, 5],
    ],
    [
      [1, 3, 2, 7, 5],
      [4, 1, 2, 5, 3],
    ],
    [
      [2, 3, 1, 5, 9],
      [9, 7],
    ],
    [
      [6, 5],
      [2, 3, 5, 7],
    ],
    [
      [2, 1, 2, 3, 5],
      [3, 1, 5, 4],
    ],
    [
      [5, 1, 1, 72],
      [5, 1, 72, 1],
    ],
  ])('is right in every dtype over batches of %j and %j', (a, b) => {
    const [x, y] = [sample(a, 1), sample(b, 2)];
    checkOp((s, t) => matmul(s!, t!), [x, y], { reference: batched(x, y), differentiable: false });
  });

  it.each([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])('is right in every dtype with batches and transposes %s, %s', (transposeA, transposeB) => {
    const [a, b] = [sample([2, 1, 7, 72], 1), sample([3, 72, 5], 2)];
    checkOp(
      (s, t) =>
        matmul(transposeA ? s!.transpose(-2, -1) : s!, transposeB ? t!.transpose(-2, -1) : t!, {
          transposeA,
          transposeB,
        }),
      [a, b],
      { reference: batched(a, b), differentiable: false },
    );
  });

  it('gives zeros over an empty inner axis, and nothing over empty outer ones', () => {
    expect([...matmul(zeros([2, 0]), zeros([0, 2])).dataSync()]).toEqual([0, 0, 0, 0]);
    expect([...matmul(zeros([3, 1, 0]), zeros([3, 0, 1])).dataSync()]).toEqual([0, 0, 0]);
    for (const [a, b] of [
      [zeros([0, 3]), zeros([3, 2])],
      [zeros([2, 3]), zeros([3, 0])],
      [zeros([0, 2, 3]), zeros([3, 4])],
    ] as const) {
      expect(matmul(a, b).dataSync().length).toBe(0);
    }
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

/** Value, tangent and gradients of a layer by plain loops, absent operands being zero. Each product is computed once. */
function layer([rows, inputs, outputs]: readonly [number, number, number]) {
  type Operand = Float64Array | null;
  const result = (size: number, value: (i: number) => number) =>
    Float64Array.from({ length: size }, (_, i) => value(i));
  const dot = (n: number, term: (p: number) => number) => {
    let sum = 0;
    for (let p = 0; p < n; p++) sum += term(p);
    return sum;
  };
  const known = new Map<Float64Array, Map<Float64Array, Float64Array>>();
  const product = (
    a: Operand,
    b: Operand,
    size: number,
    value: (a: Float64Array, b: Float64Array, i: number) => number,
  ) => {
    if (!a || !b) return null;
    const ofA = known.get(a) ?? new Map<Float64Array, Float64Array>();
    const found = ofA.get(b) ?? result(size, (i) => value(a, b, i));
    known.set(a, ofA.set(b, found));
    return found;
  };
  // [rows, inputs] by [outputs, inputs]ᵀ, [rows, outputs] by [outputs, inputs], [rows, outputs]ᵀ by [rows, inputs]
  const forward = (x: Operand, w: Operand) =>
    product(x, w, rows * outputs, (x, w, i) => {
      const [r, o] = [Math.floor(i / outputs) * inputs, (i % outputs) * inputs];
      return dot(inputs, (p) => x[r + p]! * w[o + p]!);
    });
  const backward = (g: Operand, w: Operand) =>
    product(g, w, rows * inputs, (g, w, i) => {
      const r = Math.floor(i / inputs) * outputs;
      return dot(outputs, (p) => g[r + p]! * w[p * inputs + (i % inputs)]!);
    });
  const outer = (g: Operand, x: Operand) =>
    product(g, x, outputs * inputs, (g, x, i) => {
      const o = Math.floor(i / inputs);
      return dot(rows, (p) => g[p * outputs + o]! * x[p * inputs + (i % inputs)]!);
    });
  /** A sum of matrices and of a row that all rows get. */
  const sum = (size: number, parts: Operand[], row: Operand = null) =>
    result(size, (i) => parts.reduce((s, part) => s + at(part, i), row ? row[i % outputs]! : 0));
  const sums = (g: Operand) => result(outputs, (o) => dot(rows, (p) => at(g, p * outputs + o)));
  return {
    jvp: ([x, w, b, tx, tw, tb]: Operand[]) => [
      sum(rows * outputs, [forward(x!, w!)], b!),
      sum(rows * outputs, [forward(tx!, w!), forward(x!, tw!)], tb!),
    ],
    jvpVjp: ([x, w, tx, tw, g, h]: Operand[]) => [
      sum(rows * inputs, [backward(g!, w!), backward(h!, tw!)]),
      sum(outputs * inputs, [outer(g!, x!), outer(h!, tx!)]),
      sums(g!),
      sum(rows * inputs, [backward(h!, w!)]),
      sum(outputs * inputs, [outer(h!, x!)]),
      sums(h!),
    ],
  };
}

describeOnDevices('a linear layer with its tangent', (device) => {
  const { tensor } = on(device);
  const layers: (readonly [number, number, number])[] = [
    [1, 1, 1],
    [7, 72, 100],
    [1, 100, 7],
    [5, 7, 1],
    [5, 1152, 3],
    [0, 3, 2],
    [3, 0, 2],
    [3, 2, 0],
    // Few rows against a large matrix take another way on the CPU; an emulator has no time for them.
    ...(device === 'cpu' ? ([[20, 505, 520]] as const) : []),
  ];

  /** The tensors of samples, and what their dtype stores. */
  function make(samples: readonly Sample[], dtype: (typeof floatingDTypes)[number]) {
    const tensors = samples.map((s) => tensor(Float64Array.from(Array.from(s.values)), { shape: s.shape, dtype }));
    return { tensors, stored: tensors.map((t) => Float64Array.from(t.dataSync())) };
  }

  function compare(got: readonly (Tensor | null)[], expected: readonly Float64Array[], what: string) {
    for (const [i, y] of got.entries()) {
      if (!y) continue;
      const error = relativeError(y.dataSync(), expected[i]!);
      if (!(error <= tolerances[y.dtype as keyof typeof tolerances])) throw new Error(`${what}, result ${i}: ${error}`);
    }
  }

  const present = <T>(mask: number, all: readonly T[]) => all.map((t, i) => (mask & (1 << i) ? t : null));

  it.each(layers)(
    'is right in every dtype over %i rows, %i in, %i out, whatever is absent',
    (rows, inputs, outputs) => {
      const shapes = [[rows, inputs], [outputs, inputs], [outputs]];
      const samples = [...shapes, ...shapes, [rows, outputs], [rows, outputs]].map((shape, i) => sample(shape, i + 1));
      for (const dtype of floatingDTypes) {
        const { jvp, jvpVjp } = layer([rows, inputs, outputs]);
        const { tensors, stored } = make(samples, dtype);
        const [x, w] = tensors as Tensor[];
        for (let mask = 1; mask < 8; mask++) {
          const operands = <T>(all: readonly T[]) => [
            all[0]!,
            all[1]!,
            mask & 4 ? all[2]! : null,
            ...present(mask, all.slice(3, 6)),
          ];
          const [, , b, tx, tw, tb] = operands(tensors);
          compare(linearJvp([x!, w!, b!], [tx!, tw!, tb!]), jvp(operands(stored)), `jvp in ${dtype}, present ${mask}`);
        }
        for (let mask = 1; mask < 16; mask++) {
          if ((mask & 3) === 0) continue;
          const operands = <T>(all: readonly T[]) => [
            all[0]!,
            all[1]!,
            ...present(mask >> 2, all.slice(3, 5)),
            ...present(mask & 3, all.slice(6, 8)),
          ];
          const [, , tx, tw, g, h] = operands(tensors);
          const needs = [true, true, true, true, true, true];
          const got = linearJvpVjp([x!, w!, tx!, tw!], g!, h!, needs);
          expect(got.every((t) => t !== null)).toBe(true);
          compare(got, jvpVjp(operands(stored)), `jvpVjp in ${dtype}, present ${mask}`);
        }
      }
    },
  );

  it('computes what is needed and nothing else', () => {
    const { tensors } = make([sample([4, 3], 1), sample([2, 3], 2), sample([4, 2], 3)], 'float32');
    const [x, weight, g] = tensors as [Tensor, Tensor, Tensor];
    for (let needed = 0; needed < 6; needed++) {
      const needs = Array.from({ length: 6 }, (_, i) => i === needed);
      expect(linearJvpVjp([x, weight, null, null], g, g, needs).map((t) => t !== null)).toEqual(needs);
    }
  });

  it('gives the same bits on every run', () => {
    const { tensors } = make([sample([130, 300], 1), sample([50, 300], 2), sample([130, 50], 3)], 'float32');
    const [x, weight, g] = tensors as [Tensor, Tensor, Tensor];
    const run = () =>
      linearJvpVjp([x, weight, x, null], g, g, [true, true, true, true, true, true]).map((t) => [...t!.dataSync()]);
    expect(run()).toEqual(run());
  });
});

describeOnDevices('setMatmulPrecision', (device, label) => {
  const { matmul, tensor } = on(device);
  const [m, n, k] = [24, 16, 64];
  const [a, b] = [sample([m, k], 1), sample([k, n], 2)];
  const error = (dtype: 'float32' | 'float64') => {
    const [x, y] = [a, b].map(({ values, shape }) => tensor(Float64Array.from(Array.from(values)), { shape, dtype }));
    return relativeError(
      matmul(x!, y!).dataSync(),
      product(Float64Array.from(x!.dataSync()), Float64Array.from(y!.dataSync()), m, n, k),
    );
  };
  afterEach(() => setMatmulPrecision('highest', device));

  it('lets float32 on CUDA round its factors until it is taken back, and nothing else', () => {
    expect(error('float32')).toBeLessThan(tolerances.float32);
    setMatmulPrecision('tf32', device);
    const rounded = error('float32');
    // A GPU may, and where a kernel without tensor cores is faster does not.
    if (label === 'cpu') expect(rounded).toBeLessThan(tolerances.float32);
    if (label === 'cuda-emulated') expect(rounded).toBeGreaterThan(10 * tolerances.float32);
    expect(rounded).toBeLessThan(1e-3);
    expect(error('float64')).toBeLessThan(tolerances.float64);
    setMatmulPrecision('highest', device);
    expect(error('float32')).toBeLessThan(tolerances.float32);
  });

  it('refuses other precisions and devices', () => {
    expect(() => setMatmulPrecision('high' as 'tf32', device)).toThrow(ArgumentError);
    expect(() => setMatmulPrecision('high' as 'tf32', device)).toThrow(
      "setMatmulPrecision: precision must be 'highest' or 'tf32', got 'high'",
    );
    expect(() => setMatmulPrecision('tf32', 'gpu')).toThrow(/setMatmulPrecision: device must be/);
  });
});
