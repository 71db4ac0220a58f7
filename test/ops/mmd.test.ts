// The maximum mean discrepancy against brute force in double precision: values, gradients and tangents of every kernel,
// particles that nearly or wholly agree, and what is refused.
import type { MmdKernel, MmdOptions, Tensor } from '../../lib';
import { mmdVjp } from '../../lib/ops/mmd';
import { relativeError, type Sample, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { allowed, bruteForce, type Case, type Particles, particles } from '../support/mmdOracle';
import type { FloatingDType } from '../support/tolerances';

/** To compare results that are long by: jest looks at numbers one by one. */
const bytesOf = (x: Tensor) => Buffer.from((x.dataSync() as Float32Array).buffer);
const norm = (values: Float64Array) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));

const kernels: [title: string, Case][] = [
  ['laplace', { kernel: 'laplace' }],
  ['laplace of two bandwidths', { kernel: 'laplace', bandwidths: [0.2, 1.5] }],
  ['rbf', { kernel: 'rbf' }],
  ['rbf of five bandwidths', { kernel: 'rbf', bandwidths: [0.1, 0.5, 1, 2, 10] }],
  ['imq', { kernel: 'imq' }],
  ['imq of two bandwidths', { kernel: 'imq', bandwidths: [0.3, 2] }],
  ['energy', { kernel: 'energy' }],
  ['unbiased laplace', { kernel: 'laplace', unbiased: true }],
  ['unbiased rbf', { kernel: 'rbf', unbiased: true }],
  ['unbiased imq', { kernel: 'imq', unbiased: true }],
  ['unbiased energy', { kernel: 'energy', unbiased: true }],
];

describeOnDevices('mmd', (device, label) => {
  const { cast, checkOp, grad, jvp, mmd, ones, setThreads, tensor, threads, vjp, zeros } = on(device);
  // The emulator is slow: what takes the same path there is tested once.
  const emulated = label === 'cuda-emulated';

  function tensors({ x, y, shape: [groups, m, n, dim] }: Particles, dtype: FloatingDType) {
    const made = [
      tensor(x, { shape: [groups, m, dim], dtype }),
      tensor(y, { shape: [groups, n, dim], dtype }),
    ] as const;
    const stored = made.map((t) => Float64Array.from(t.dataSync())) as [Float64Array, Float64Array];
    return { x: made[0], y: made[1], stored: { x: stored[0], y: stored[1], shape: [groups, m, n, dim] } as Particles };
  }

  function optionsOf({ weight, lossWeight, ...rest }: Case, dtype: FloatingDType): MmdOptions {
    const perGroup = (values?: number[]) =>
      values && tensor(Float64Array.from(values), { dtype: dtype === 'float64' ? 'float64' : 'float32' });
    return { ...rest, weight: perGroup(weight), lossWeight: perGroup(lossWeight) };
  }

  /**
   * The gradients' error is that of the group that is worst. Where one is zero but for rounding (energy over one feature
   * adds up signs), errors are relative to what it adds up.
   */
  function expectAgreement(given: Particles, options: Case, dtype: FloatingDType): void {
    const { x, y, stored } = tensors(given, dtype);
    const expected = bruteForce(stored, options);
    // A power of two, so that float16 holds the gradients in its normal range.
    const g = ones([given.shape[0]], { dtype: dtype === 'float64' ? dtype : 'float32' }).mul(1024);
    const [value, gx, gy] = mmdVjp(x, y, g, optionsOf(options, dtype));
    const alone = mmd(x, y, optionsOf(options, dtype)).dataSync();
    expect([...alone]).toEqual([...value.dataSync()]);
    for (const [group, v] of expected.value.entries()) {
      expect(Math.abs(alone[group]! - v)).toBeLessThanOrEqual(allowed[dtype].value * Math.max(1, Math.abs(v)));
    }
    for (const [got, wanted, sizes] of [
      [gx!, expected.gx, expected.sizeX],
      [gy!, expected.gy, expected.sizeY],
    ] as const) {
      const [size, values] = [wanted.length / given.shape[0], Float64Array.from(got.dataSync(), (v) => v / 1024)];
      for (let at = 0; at < wanted.length; at += size) {
        const [mine, right] = [values.subarray(at, at + size), wanted.subarray(at, at + size)];
        const scale = Math.max(norm(right), 1e-4 * norm(sizes.subarray(at, at + size)));
        expect(norm(mine.map((v, i) => v - right[i]!)) / scale).toBeLessThanOrEqual(allowed[dtype].gradient);
      }
    }
  }

  // The features of all kernels; the emulator sees the many of the first alone.
  const featuresOf = (title: string, few: number[], many: number[]) =>
    emulated && title !== kernels[0]![0] ? few : [...few, ...many];

  describe.each(kernels)('with kernel %s', (title, options) => {
    const weighted = { ...options, weight: [0.5, 12, 1], lossWeight: [1, 0.25, -2] };

    it.each(featuresOf(title, [1, 7, 72, 100], [1152, 4097]))(
      'agrees with brute force over %i features, in every dtype',
      (dim) => {
        for (const dtype of ['float64', 'float32', 'bfloat16', 'float16'] as const) {
          expectAgreement(particles([3, 4, 3, dim], dim), weighted, dtype);
        }
      },
    );

    it.each([1e-1, 1e-3])('keeps its precision where x and y are %d apart', (apart) => {
      for (const dim of featuresOf(title, [1, 7, 100, 1029], [1000, 4096])) {
        expectAgreement(particles([3, 4, 4, dim], dim, apart), weighted, 'float32');
        expectAgreement(particles([3, 4, 4, dim], dim, apart), weighted, 'float64');
      }
    });

    it('takes any numbers of particles', () => {
      const few = [2, 3, 4, 5, 8, 17];
      const sizes = [...(options.unbiased ? [] : [1]), ...few, ...featuresOf(title, [], [33, 64])];
      const dim = emulated ? 5 : 19;
      for (const m of sizes) for (const n of sizes) expectAgreement(particles([1, m, n, dim], m), options, 'float32');
    });

    it('carries tangents of x, of y and of both', () => {
      for (const dtype of ['float64', 'float32', 'bfloat16'] as const) {
        for (const dim of featuresOf(title, [33], [1029])) {
          const given = particles([3, 4, 3, dim], dim);
          const { x, y, stored } = tensors(given, dtype);
          const t = tensors(particles([3, 4, 3, dim], dim + 5), dtype);
          const { value, gx, gy } = bruteForce(stored, weighted);
          const along = (gradient: Float64Array, direction: Float64Array, group: number) => {
            const size = gradient.length / 3;
            let sum = 0;
            for (let i = group * size; i < (group + 1) * size; i++) sum += gradient[i]! * direction[i]!;
            return sum;
          };
          const f = (a: Tensor, b: Tensor) => mmd(a, b, optionsOf(weighted, dtype));
          const results = [
            [jvp((a: Tensor) => f(a, y), [x], [t.x]), 1, 0],
            [jvp((b: Tensor) => f(x, b), [y], [t.y]), 0, 1],
            [jvp(f, [x, y], [t.x, t.y]), 1, 1],
          ] as const;
          for (const [[primal, tangent], ofX, ofY] of results) {
            for (const group of [0, 1, 2]) {
              const expected = ofX * along(gx, t.stored.x, group) + ofY * along(gy, t.stored.y, group);
              const tolerance = dtype === 'float64' ? 1e-12 : 2e-6;
              expect(Math.abs(tangent.dataSync()[group]! - expected)).toBeLessThanOrEqual(tolerance);
              expect(Math.abs(primal.dataSync()[group]! - value[group]!)).toBeLessThanOrEqual(2e-6);
            }
          }
        }
      }
    });

    it('gives no gradient to coincident particles', () => {
      const given = particles([3, 4, 5, 37], 5);
      const { x, y } = given;
      x.copyWithin(0, 37, 74); // x₀ = x₁ in group 0
      y.set(x.subarray(2 * 37, 3 * 37), 37); // y₁ = x₂
      for (const dtype of ['float64', 'float32', 'bfloat16'] as const) expectAgreement(given, weighted, dtype);
      const same = tensor(x, { shape: [3, 4, 37] });
      const [value, gx] = mmdVjp(same, same, null, { ...optionsOf(options, 'float64'), unbiased: false });
      for (const v of value.dataSync()) expect(Math.abs(v)).toBeLessThanOrEqual(1e-15);
      for (const v of gx!.dataSync()) expect(Math.abs(v)).toBeLessThanOrEqual(1e-9);
    });

    it('has the derivatives of its formula to second order', () => {
      const samples: Sample[] = [sample([2, 3, 5], 1), sample([2, 4, 5], 2)];
      const perGroup = optionsOf({ ...options, weight: [0.7, 9], lossWeight: [1.5, 0.5] }, 'float64');
      checkOp((x, y) => mmd(x!, y!, perGroup), samples, { dtypes: ['float64'] });
      checkOp((x, y) => mmdVjp(x!, y!, null, perGroup) as Tensor[], samples, { dtypes: ['float64'], second: false });
    });
  });

  it('keeps its precision for particles near another than their own', () => {
    // yⱼ lies 1e-3 from x of the next place: differences within pairs are the large ones.
    for (const dim of [5, 2048]) {
      for (const kernel of ['laplace', 'energy'] as const) {
        const given = particles([2, 4, 4, dim], dim + 1, 1e-3);
        for (const group of [0, 1]) {
          const own = given.y.subarray(group * 4 * dim, (group + 1) * 4 * dim);
          own.set([...own.subarray(dim), ...own.subarray(0, dim)]);
        }
        expectAgreement(given, { kernel }, 'float32');
      }
    }
  });

  it('splits the features of few groups without a change in what is computed', () => {
    const dim = emulated ? 30001 : 300001;
    expectAgreement(particles([1, 4, 4, dim], 3, 1e-3), { kernel: 'laplace', weight: [100] }, 'float32');
    expectAgreement(particles([2, 3, 2, 9001], 3), { kernel: 'rbf' }, 'bfloat16');
    const { x, y } = tensors(particles([1, 2, 2, 20001], 4), 'float64');
    const tx = tensor(Float64Array.from(sample([1, 2, 20001], 5).values), { shape: [1, 2, 20001] });
    const [, tangent] = jvp((a: Tensor) => mmd(a, y, { kernel: 'imq' }), [x], [tx]);
    const [, pullback] = vjp((a: Tensor) => mmd(a, y, { kernel: 'imq' }), [x]);
    const along = (pullback(ones([1], { dtype: 'float64' })) as Tensor[])[0]!.mul(tx).sum().itemSync();
    expect(Math.abs(tangent.itemSync() - along)).toBeLessThan(1e-14);
  });

  // Kernels and cuts of their own on CUDA devices: as many of either kind, in every dtype, in double and in float; tiles of
  // pairs in float; groups that no block has room for; more groups than run at once.
  it.each<[string, Particles['shape'][]]>([
    [
      'one particle of either kind',
      [
        [2, 1, 1, 10],
        [2, 1, 1, 1033],
        [1, 1, 1, 17001],
      ],
    ],
    [
      'two',
      [
        [2, 2, 2, 9],
        [2, 2, 2, 1032],
      ],
    ],
    [
      'four',
      [
        [2, 4, 4, 33],
        [2, 4, 4, 1152],
      ],
    ],
    [
      'tiles of pairs',
      [
        [1, 9, 12, 70],
        [1, 9, 12, 1028],
      ],
    ],
    ['very many particles', [[1, 64, 64, 40]]],
  ])('is right in every dtype for %s', (_, shapes) => {
    for (const shape of shapes) {
      for (const dtype of ['float64', 'float32', 'bfloat16', 'float16'] as const) {
        expectAgreement(particles(shape, 11), { kernel: 'laplace', weight: [3, 0.5].slice(0, shape[0]) }, dtype);
      }
    }
  });

  it('is right for groups of four and four with whole vectors of features', () => {
    const shapes: Particles['shape'][] = [
      [3, 4, 4, 1024],
      [2, 4, 4, 1168],
    ];
    if (!emulated) shapes.push([70, 4, 4, 1040], [1, 4, 4, 20016], [3, 4, 4, 6144]);
    for (const [seed, shape] of shapes.entries()) {
      for (const apart of [undefined, 1e-2]) {
        expectAgreement(particles(shape, 40 + seed, apart), { kernel: 'laplace' }, 'float32');
      }
    }
  });

  it('is right for many particles of many features', () => {
    expectAgreement(particles([2, 17, 5, emulated ? 2500 : 4097], 12), { kernel: 'imq' }, 'float32');
    const { x, y, stored } = tensors(particles([1, 11, 9, 2500], 13), 'float32');
    const tx = tensors(particles([1, 11, 9, 2500], 14), 'float32').x;
    const { gx } = bruteForce(stored, { kernel: 'rbf' });
    const [, tangent] = jvp((a: Tensor) => mmd(a, y, { kernel: 'rbf' }), [x], [tx]);
    const direction = tx.dataSync();
    const expected = gx.reduce((sum, v, i) => sum + v * direction[i]!, 0);
    expect(Math.abs(tangent.itemSync() - expected)).toBeLessThanOrEqual(2e-6);
  });

  it('is right for more groups than run at once', () => {
    const groups = emulated ? 700 : 5000;
    for (const [m, dim] of [
      [1, 300],
      [3, 20],
    ] as const) {
      expectAgreement(particles([groups, m, m, dim], 15), { kernel: 'laplace' }, 'float32');
    }
  });

  it('gives the gradients that are asked for, the same bits as all', () => {
    for (const shape of [
      [2, 4, 4, 20],
      [2, 3, 5, 20],
      [1, 2, 2, 40001],
    ] as Particles['shape'][]) {
      const { x, y } = tensors(particles(shape, 16), 'float32');
      const [, gx, gy] = mmdVjp(x, y, null, { kernel: 'rbf' });
      const onlyX = mmdVjp(x, y, null, { kernel: 'rbf' }, [true, false]);
      const onlyY = mmdVjp(x, y, null, { kernel: 'rbf' }, [false, true]);
      expect([onlyX[2], onlyY[1]]).toEqual([null, null]);
      expect(onlyX[1]!.dataSync()).toEqual(gx!.dataSync());
      expect(onlyY[2]!.dataSync()).toEqual(gy!.dataSync());
    }
  });

  it.each([17, 300])('takes the mean over %i bandwidths', (count) => {
    const bandwidths = Array.from({ length: count }, (_, i) => 0.1 + i / 7);
    expectAgreement(particles([2, 3, 4, 10], 17), { kernel: 'rbf', bandwidths }, 'float64');
  });

  it('differentiates in 16-bit floats, the result being float32', () => {
    const { x, y, stored } = tensors(particles([2, 3, 3, 50], 6), 'bfloat16');
    const value = mmd(x, y, { kernel: 'laplace' });
    expect(value.dtype).toBe('float32');
    const gx = grad((at: Tensor) => mmd(at, y, { kernel: 'laplace' }).sum())(x);
    expect(gx.dtype).toBe('bfloat16');
    expect(relativeError(gx.dataSync(), bruteForce(stored, { kernel: 'laplace' }).gx)).toBeLessThan(8e-3);
    const second = grad((at: Tensor) =>
      cast(grad((b: Tensor) => mmd(b, y, { kernel: 'laplace' }).sum())(at), 'float32')
        .square()
        .sum(),
    )(x);
    expect([...second.dataSync()].every(Number.isFinite)).toBe(true);
  });

  it('takes the weights for constants', () => {
    const { x, y } = tensors(particles([2, 3, 3, 5], 7), 'float64');
    const w = ones([2], { dtype: 'float64' });
    const [, tangent] = jvp((at: Tensor) => mmd(x, y, { kernel: 'laplace', weight: at, lossWeight: at }), [w], [w]);
    expect([...tangent.dataSync()]).toEqual([0, 0]);
  });

  it('gives the same bits on every run and any number of threads', () => {
    const before = threads();
    for (const shape of [
      [emulated ? 5 : 40, 4, 4, 3000],
      [emulated ? 5 : 40, 4, 4, 2048],
      [1, 3, 5, 20001],
      [1, 4, 4, 20016],
    ] as Particles['shape'][]) {
      const { x, y } = tensors(particles(shape, 8), 'float32');
      const once = () => mmdVjp(x, y, null, { kernel: 'laplace' }).map((t) => bytesOf(t!));
      const expected = once();
      try {
        for (const n of [1, 3]) {
          setThreads(n);
          for (const [i, bytes] of once().entries()) expect(bytes.equals(expected[i]!)).toBe(true);
        }
      } finally {
        setThreads(before);
      }
    }
  });

  it('handles no groups', () => {
    const [x, y] = [zeros([0, 4, 8]), zeros([0, 3, 8])];
    expect(mmd(x, y, { kernel: 'rbf' }).shape).toEqual([0]);
    expect(grad((at: Tensor) => mmd(at, y, { kernel: 'rbf' }).sum())(x).shape).toEqual([0, 4, 8]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('shows a particle with %d in its group and in no other', (bad) => {
    for (const [, options] of kernels) {
      const given = particles([3, 4, 4, 20], 9);
      given.x[4 * 20 + 45] = bad;
      const { x, y } = tensors(given, 'float32');
      const [value, gx, gy] = mmdVjp(x, y, null, optionsOf(options, 'float32'));
      expect([...value.dataSync()].map(Number.isFinite)).toEqual([true, false, true]);
      expect([...gx!.dataSync().subarray(80, 160)].some(Number.isNaN)).toBe(true);
      expect([...gy!.dataSync().subarray(80, 160)].every(Number.isNaN)).toBe(true);
      expect([...gx!.dataSync().subarray(0, 80)].every(Number.isFinite)).toBe(true);
      expect(Number.isNaN(value.dataSync()[1])).toBe(true);
    }
  });

  let x: Tensor;
  beforeAll(() => {
    x = ones([2, 3, 4]);
  });
  it.each<[string, () => unknown, RegExp]>([
    ['a matrix', () => mmd(ones([2, 3]), x, { kernel: 'rbf' }), /mmd: x must have rank 3, got shape \[2, 3\]/],
    [
      'integers',
      () => mmd(ones([2, 3, 4], { dtype: 'int32' }), x, { kernel: 'rbf' }),
      /mmd: x must be a floating type/,
    ],
    ['other groups', () => mmd(x, ones([1, 3, 4]), { kernel: 'rbf' }), /y must have the groups and features of x/],
    ['other features', () => mmd(x, ones([2, 3, 5]), { kernel: 'rbf' }), /y must have the groups and features of x/],
    ['no features', () => mmd(zeros([2, 3, 0]), zeros([2, 3, 0]), { kernel: 'rbf' }), /at least one feature/],
    ['no particles', () => mmd(x, zeros([2, 0, 4]), { kernel: 'rbf' }), /y must have 1 to 64 particles/],
    ['65 particles', () => mmd(ones([1, 65, 2]), ones([1, 2, 2]), { kernel: 'rbf' }), /x must have 1 to 64 particles/],
    [
      'one particle, unbiased',
      () => mmd(x, ones([2, 1, 4]), { kernel: 'rbf', unbiased: true }),
      /y must have 2 to 64 particles a group \(unbiased\), got shape \[2, 1, 4\]/,
    ],
    [
      'mixed dtypes',
      () => mmd(x, ones([2, 3, 4], { dtype: 'bfloat16' }), { kernel: 'rbf' }),
      /mmd: y must be float32, got bfloat16/,
    ],
    [
      'an unknown kernel',
      () => mmd(x, x, { kernel: 'gauss' as MmdKernel }),
      /mmd: kernel must be one of 'laplace', 'rbf', 'imq', 'energy', got 'gauss'/,
    ],
    ['no options', () => mmd(x, x, undefined as unknown as MmdOptions), /mmd: options must be an object/],
    [
      'a misspelt option',
      () => mmd(x, x, { kernel: 'rbf', bandwidth: 1 } as unknown as MmdOptions),
      /options must be kernel, weight.* got 'bandwidth'/,
    ],
    ['a NaN eps', () => mmd(x, x, { kernel: 'rbf', eps: Number.NaN }), /mmd: eps must be a positive finite number/],
    ['an eps of 0', () => mmd(x, x, { kernel: 'rbf', eps: 0 }), /mmd: eps must be a positive finite number, got 0/],
    ['a bandwidth of 0', () => mmd(x, x, { kernel: 'rbf', bandwidths: [1, 0] }), /bandwidths must be a positive/],
    ['a NaN bandwidth', () => mmd(x, x, { kernel: 'imq', bandwidths: [Number.NaN] }), /bandwidths must be a positive/],
    ['bandwidths for energy', () => mmd(x, x, { kernel: 'energy', bandwidths: [1] }), /bandwidths must be absent/],
    [
      'a weight of another shape',
      () => mmd(x, x, { kernel: 'rbf', weight: ones([3]) }),
      /mmd: weight must have shape \[2\], got \[3\]/,
    ],
    [
      'a loss weight of another dtype',
      () => mmd(x, x, { kernel: 'rbf', lossWeight: ones([2], { dtype: 'float64' }) }),
      /mmd: lossWeight must be float32, got float64/,
    ],
  ])('refuses %s', (_, call, message) => {
    expect(call).toThrow(message);
  });

  it.each([
    ['a NaN weight', { weight: [1, Number.NaN] }, /mmd: weight must be finite and at least 0, got nan/],
    ['a negative weight', { weight: [-1, 1] }, /weight must be finite and at least 0, got -1 for group 0/],
    ['an infinite loss weight', { lossWeight: [1, Number.POSITIVE_INFINITY] }, /lossWeight must be finite/],
  ])('refuses %s where the result is read', (_, weights, message) => {
    const value = mmd(x, x, optionsOf({ kernel: 'laplace', ...weights }, 'float32'));
    expect(() => value.dataSync()).toThrow(message);
  });

  it('spoils no other group by a weight that it refuses', () => {
    const given = { kernel: 'laplace', weight: tensor([-1, 1]) } as const;
    const [value, gx, gy] = mmdVjp(x, x.mul(2), null, given);
    expect(() => value.dataSync()).toThrow(/mmdVjp: weight must be finite and at least 0, got -1 for group 0/);
    if (device === 'cpu') return; // all of them are marked
    const [value2, gx2, gy2] = mmdVjp(x, x.mul(2), null, { kernel: 'laplace' });
    for (const [got, expected] of [
      [gx, gx2],
      [gy, gy2],
    ] as const) {
      expect([...got!.dataSync().subarray(0, 12)].every(Number.isNaN)).toBe(true);
      expect(got!.dataSync().subarray(12)).toEqual(expected!.dataSync().subarray(12));
    }
    expect([...value2.dataSync()].every(Number.isFinite)).toBe(true);
  });
});
