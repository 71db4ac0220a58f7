// Drifting: the field against its formula and its symmetries, the loss against the gradient it is made for, guards.
import {
  ArgumentError,
  concat,
  DTypeError,
  drawDriftingBatch,
  driftingField,
  driftingLoss,
  functionalCall,
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
  return Array.from(
    { length: groups },
    (_, g) =>
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
  });

  it('vanishes on average where particles and data have one law', () => {
    const generator = new Generator(3);
    const [y, x] = [randn([4000, 4, 2], { generator }), randn([4000, 4, 2], { generator })];
    const V = driftingField(y, x, { kernel: 'rbf' }).mean([0, 1]).dataSync();
    expect(Math.max(...V.map(Math.abs))).toBeLessThan(0.03);
  });

  it.each(kernels)('draws far particles to the data, whatever the distance: %s', (kernel) => {
    for (const distance of [100, 1e4]) {
      for (const dtype of ['float32', 'float64'] as const) {
        const x = points([2, 4, 3], 1, dtype);
        const y = points([2, 4, 3], 2, dtype).add(tensor([distance, 0, 0], { dtype }));
        const V = driftingField(y, x, { kernel, bandwidths: [1e-3, 1] });
        expect(V.dtype).toBe(dtype);
        // Attraction ends among the data, and repulsion is no more than the particles are apart.
        const landed = y.add(V).dataSync();
        expect(Math.max(...landed.map(Math.abs))).toBeLessThan(10);
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
    const [pair, target] = [
      tensor([
        [
          [1, 2],
          [1, 2],
          [0, 0],
        ],
      ]),
      tensor([[[1, 2]]]),
    ];
    expect(
      relativeError(driftingField(pair, target, { kernel }).dataSync(), fieldOf(pair, target, kernel, [1])),
    ).toBeLessThan(1e-6);
  });

  it.each(kernels)('is in float32 what it is in float64, near particles too: %s', (kernel) => {
    for (const spread of [1, 1e-3]) {
      const wide = [1, 2].map((seed) =>
        tensor(Float64Array.from(sample([3, 6, 33], seed).values), { shape: [3, 6, 33] })
          .mul(spread)
          .add(1),
      );
      const [y, x] = wide.map((t) => t.to({ dtype: 'float32' })) as [Tensor, Tensor];
      const exact = driftingField(y.to({ dtype: 'float64' }), x.to({ dtype: 'float64' }), {
        kernel,
        bandwidths: [0.1],
      });
      const V = driftingField(y, x, { kernel, bandwidths: [0.1] });
      expect(relativeError(V.dataSync(), exact.dataSync())).toBeLessThan(1e-5);
    }
    const narrow = driftingField(
      points([1, 2, 3], 1).to({ dtype: 'bfloat16' }),
      points([1, 2, 3], 2).to({ dtype: 'bfloat16' }),
    );
    expect(narrow.dtype).toBe('float32');
  });

  it('is a constant to gradients and derivatives, and leaves nothing behind', () => {
    const [y, x] = [points([1, 3, 2], 1), points([1, 3, 2], 2)];
    const gy = grad((a: Tensor) => driftingField(a, x).add(a).sum())(y) as Tensor;
    expect([...gy.dataSync()]).toEqual([1, 1, 1, 1, 1, 1]);
    const [, tangent] = jvp((a: Tensor) => driftingField(y, a), [x], [x]);
    expect([...tangent.dataSync()]).toEqual([0, 0, 0, 0, 0, 0]);
    const before = memory().tensors;
    driftingField(y, x, { bandwidths: [1, 2] }).dispose();
    expect(memory().tensors).toBe(before);
  });

  it('passes on what is not a number', () => {
    const y = tensor([
      [[1], [Number.NaN]],
      [[1], [2]],
    ]);
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

describe('driftingLoss', () => {
  const options = { particles: 2, kernel: 'laplace', bandwidths: [0.2, 1] } as const;

  it('is the mean square of the step that particles should take, which its gradient by them is minus twice', () => {
    const net = makeNet('float64');
    const { x, noise, labels } = makeBatch('float64');
    const y = sampleFlowMap(net, noise, { labels });
    const V = driftingField(y.reshape([2, 2, 16]), x.reshape([2, 2, 16]), options);
    // The same particles from a network that is its parameter.
    class Particles extends nn.Module {
      constructor() {
        super();
        this.parameter('F', noise.sub(y));
      }

      forward(): Tensor {
        return this.get('F');
      }
    }
    for (const step of [1, 0.25]) {
      const { loss, drift } = driftingLoss(net, { x, noise, labels }, { ...options, step });
      expect(drift.shape).toEqual([2]);
      expect(relativeError(drift.dataSync(), V.square().mean([1, 2]).dataSync())).toBeLessThan(1e-12);
      expect(loss.itemSync()).toBeCloseTo(step ** 2 * V.square().mean().itemSync(), 12);
      const direct = new Particles();
      const g = grad((params: Map<string, Tensor>) =>
        functionalCall(direct, params, () => driftingLoss(direct, { x, noise }, { ...options, step }).loss),
      )(direct.namedParameters()) as Map<string, Tensor>;
      // y = n − F: the gradient by F is the negative of that by y.
      const expected = V.mul((2 * step) / 64).dataSync();
      expect(relativeError(g.get('F')!.dataSync(), expected)).toBeLessThan(1e-12);
    }
  });

  it('is of a batch drawn beforehand what it is of the one it draws', () => {
    const net = makeNet('float32');
    const { x, labels } = makeBatch('float32');
    const draws = { particles: 2, labelDropout: 0.5 };
    const direct = driftingLoss(net, { x, labels }, { ...draws, generator: new Generator(5) });
    const drawn = drawDriftingBatch({ x, labels }, { ...draws, generator: new Generator(5) });
    expect([...driftingLoss(net, drawn, draws).drift.dataSync()]).toEqual([...direct.drift.dataSync()]);
  });

  it('has the parameter gradients of the differences of a loss whose drifted particles are held', () => {
    const net = makeNet('float64');
    const { x, noise, labels } = makeBatch('float64');
    const loss = () => driftingLoss(net, { x, noise, labels }, options).loss;
    const params = net.namedParameters();
    const found = grad((given: Map<string, Tensor>) => functionalCall(net, given, loss))(params) as Map<string, Tensor>;
    const y = () => sampleFlowMap(net, noise, { labels });
    const target = y().add(
      driftingField(y().reshape([2, 2, 16]), x.reshape([2, 2, 16]), options).reshape([4, 1, 4, 4]),
    );
    for (const name of ['blocks.0.attn.qkv.weight', 's_embedder.mlp.0.weight', 'y_embedder.embedding_table.weight']) {
      const p = params.get(name)!;
      const direction = randn(p.shape, { dtype: 'float64', generator: new Generator(9) });
      const value = (by: number) =>
        functionalCall(net, new Map([[name, p.add(direction.mul(by))]]), () =>
          y().sub(target).square().mean().itemSync(),
        );
      const difference = (value(1e-5) - value(-1e-5)) / 2e-5;
      expect(found.get(name)!.mul(direction).sum().itemSync()).toBeCloseTo(difference, 7);
    }
  });

  it('agrees between float32 and float64', () => {
    const run = (dtype: 'float32' | 'float64') => {
      const net = makeNet(dtype);
      const { x, noise, labels } = makeBatch(dtype);
      const found = grad((params: Map<string, Tensor>) =>
        functionalCall(net, params, () => driftingLoss(net, { x, noise, labels }, options).loss),
      )(net.namedParameters()) as Map<string, Tensor>;
      return [...found.values()].flatMap((g) => [...g.dataSync()]);
    };
    expect(relativeError(run('float32'), run('float64'))).toBeLessThan(2e-5);
  });

  it('gives the network the times it is told, and the jump between them', () => {
    const { x, noise } = makeBatch('float64');
    const seen: number[][] = [];
    const net = makeNet('float64');
    const forward = net.forward.bind(net);
    net.forward = (given, t, s, condition) => {
      seen.push([...t.dataSync()], [...s.dataSync()]);
      return forward(given, t, s, condition);
    };
    const early = driftingLoss(net, { x, noise }, { ...options, t: 0.9, s: 0.1 });
    expect(seen).toEqual([new Array(4).fill(0.9), new Array(4).fill(0.1)]);
    const at = (value: number) => tensor(new Array<number>(4).fill(value), { dtype: 'float64' });
    const y = noise.sub(forward(noise, at(0.9), at(0.1)).mul(0.8));
    const V = driftingField(y.reshape([2, 2, 16]), x.reshape([2, 2, 16]), options);
    expect(early.loss.itemSync()).toBeCloseTo(V.square().mean().itemSync(), 12);
  });

  it('drops classes group by group, only where it draws the noise', () => {
    const net = makeNet('float32');
    const x = randn([64, 1, 4, 4]);
    const labels = tensor(Int32Array.from({ length: 64 }, (_, i) => (i >> 2) % 3));
    let seen: number[] = [];
    const forward = net.forward.bind(net);
    net.forward = (given, t, s, condition) => {
      seen = [...condition!.labels!.dataSync()] as number[];
      return forward(given, t, s, condition);
    };
    const settings = { particles: 4, labelDropout: 0.5 };
    const run = (seed: number, noise?: Tensor) =>
      driftingLoss(net, { x, labels, ...(noise && { noise }) }, { ...settings, generator: new Generator(seed) }).loss;
    expect(run(3).itemSync()).toBe(run(3).itemSync());
    expect(run(3).itemSync()).not.toBe(run(4).itemSync());
    const groups = Array.from({ length: 16 }, (_, g) => seen.slice(4 * g, 4 * g + 4));
    expect(groups.every((group) => new Set(group).size === 1)).toBe(true);
    expect(new Set(groups.map((group, g) => group[0] === g % 3 || group[0] === -1))).toEqual(new Set([true]));
    expect(groups.some((group) => group[0] === -1)).toBe(true);
    expect(groups.some((group) => group[0] !== -1)).toBe(true);
    run(3, randn([64, 1, 4, 4]));
    expect(seen).toEqual([...labels.dataSync()]);
  });

  it('brings free particles to the data', () => {
    const generator = new Generator(5);
    const data = randn([64, 2], { generator })
      .mul(0.1)
      .add(tensor([2, -1]));
    let y = randn([64, 2], { generator });
    for (let i = 0; i < 50; i++) {
      const V = driftingField(y.reshape([1, 64, 2]), data.reshape([1, 64, 2]), { bandwidths: [0.2] });
      y = y.add(V.reshape([64, 2]).mul(0.5));
    }
    const centre = y.mean(0).dataSync();
    expect(Math.hypot(centre[0]! - 2, centre[1]! + 1)).toBeLessThan(0.1);
    expect(Math.sqrt(y.sub(y.mean(0)).square().mean().itemSync())).toBeLessThan(0.3);
  });

  it('names the group that is not finite', () => {
    const { x, noise } = makeBatch('float32');
    const values = Float32Array.from(x.dataSync());
    values[40] = Number.NaN;
    const { loss, drift } = driftingLoss(makeNet('float32'), { x: tensor(values, { shape: x.shape }), noise }, options);
    expect(() => loss.itemSync()).toThrow(NumericalError);
    expect(() => loss.itemSync()).toThrow(/drifting loss of a group is -?nan in row 1/);
    expect(() => drift.dataSync()).toThrow(/drift of a group is -?nan in row 1/);
  });

  it('refuses what does not fit', () => {
    const net = makeNet('float32');
    const { x, noise, labels } = makeBatch('float32');
    const refused = (settings: object, message: RegExp) => {
      const call = () => driftingLoss(net, { x, noise, labels }, settings as never);
      expect(call).toThrow(ArgumentError);
      expect(call).toThrow(message);
    };
    refused({ particles: 3 }, /particles must be .* divides the batch 4, got 3/);
    refused({ particles: 0 }, /particles must be .* got 0/);
    refused({}, /particles must be .* got undefined/);
    refused({ particles: 2, step: Number.NaN }, /step must be .* got NaN/);
    refused({ particles: 2, t: 1.5 }, /t must be in \(0, 1\], got 1.5/);
    refused({ particles: 2, s: 1 }, /s must be in \[0, t\), t being 1, got 1/);
    refused({ particles: 2, labelDropout: -1 }, /labelDropout must be in \[0, 1\], got -1/);
    refused({ particles: 2, kernel: 'energy' }, /driftingLoss: kernel must be one of/);
    expect(() => driftingLoss(net, { x, noise: noise.slice([0], [2]) }, options)).toThrow(ShapeError);
    expect(() => driftingLoss(net, { x, noise, labels: labels.slice([0], [2]) }, options)).toThrow(
      /labels must have shape \[4\], got \[2\]/,
    );
    expect(() => driftingLoss(net, { x: zeros([0, 1, 4, 4]) }, options)).toThrow(ShapeError);
  });
});
