// Samplers of Inductive Moment Matching with networks whose answers are known in closed form; what the network is told;
// grids, guidance, guards.
import {
  ArgumentError,
  evaluateImm,
  Generator,
  type ImmMapping,
  type ImmMappingOptions,
  immMapping,
  immPresets,
  memory,
  NumericalError,
  nn,
  type PushforwardOptions,
  randn,
  ShapeError,
  samplePushforward,
  sampleRestart,
  type Tensor,
  tensor,
  timeGrid,
} from '../../lib';
import { relativeError } from '../support/checkOp';

interface Call {
  x: Float64Array;
  t: Float64Array;
  second: Float64Array;
  labels: number[] | null;
  dtype: string;
}

/** Data without spread: x is 1, 2, 3 by class and 0.5 without one, so that F is known for every x_t. */
class PointNetwork extends nn.Module {
  readonly calls: Call[] = [];

  constructor(
    private readonly mapping: ImmMapping,
    private readonly timeScale = 1000,
    readonly secondTime?: 'raw',
  ) {
    super();
  }

  forward(x: Tensor, t: Tensor, second: Tensor, { labels }: nn.DiTCondition = {}): Tensor {
    const read = (value: Tensor) => Float64Array.from(value.dataSync());
    const classes = labels ? [...labels.dataSync()] : null;
    const call = { x: read(x), t: read(t), second: read(second), labels: classes, dtype: t.dtype };
    this.calls.push(call);
    const { options, alpha, sigma, inputScale } = this.mapping;
    const per = x.size / x.shape[0]!;
    const values = call.x.map((v, i) => {
      const row = Math.floor(i / per);
      const time = call.t[row]! / this.timeScale;
      const data = center(classes?.[row] ?? -1);
      const n = (v / inputScale(time) - alpha(time) * data) / sigma(time);
      if (options.f === 'identity') return data;
      if (options.f === 'euler_fm') return (n - data) / options.sigmaData;
      const norm = Math.hypot(alpha(time), sigma(time));
      return (alpha(time) * n - sigma(time) * data) / (options.sigmaData * norm);
    });
    return tensor(values, { shape: x.shape, dtype: x.dtype as 'float64' });
  }
}

const center = (label: number) => (label < 0 ? 0.5 : label + 1);
const labels = () => tensor(Int32Array.from([0, 2, 1]));
const latents = (seed = 1) => randn([3, 2, 2], { dtype: 'float64', generator: new Generator(seed) }).mul(0.5);
const rowOf = (i: number) => Math.floor(i / 4);

const kinds: ImmMappingOptions[] = [
  { schedule: 'fm', f: 'identity' },
  immPresets.cifar10,
  immPresets.imagenet,
  { schedule: 'vp_cosine', f: 'identity', eps: 0.01 },
  { schedule: 'vp_cosine', f: 'simple_edm' },
];
const grids: Pick<PushforwardOptions, 'steps' | 'grid' | 'mid' | 'times'>[] = [
  ...(['uniform', 'edm'] as const).flatMap((grid) => [1, 2, 4].map((steps) => ({ grid, steps }))),
  { grid: 'mid' },
  { grid: 'mid', mid: 1.4 },
  { grid: 'mid', steps: 4, mid: [30, 4, 0.5] },
];

describe.each(kinds.map((kind) => [`${kind.f} on ${kind.schedule}`, kind] as const))('sampling with %s', (_, kind) => {
  const mapping = immMapping(kind);
  const { eps, T } = mapping.options;
  /** Where the path of the latents as x_T ends: at the data where eps is 0. */
  const landing = (z: Tensor) =>
    Array.from(z.dataSync(), (v, i) => {
      const data = center([0, 2, 1][rowOf(i)]!);
      return mapping.alpha(eps) * data + (mapping.sigma(eps) * (v - mapping.alpha(T) * data)) / mapping.sigma(T);
    });

  it.each(grids)('lands on the data, %j', (grid) => {
    const net = new PointNetwork(mapping);
    const z = latents();
    const { samples, evaluations } = samplePushforward(net, z, { mapping, labels: labels(), ...grid });
    expect(relativeError(samples.dataSync(), landing(z))).toBeLessThan(1e-11);
    expect(evaluations).toBe(net.calls.length);
    expect(evaluations).toBe(timeGrid({ mapping, ...grid }).length - 1);
  });

  it.each(grids)('lands on the data after restarts, %j', (grid) => {
    const net = new PointNetwork(mapping);
    const options = { mapping, labels: labels(), ...grid, generator: new Generator(3) };
    const { samples, evaluations } = sampleRestart(net, latents(), options);
    const data = Array.from({ length: 12 }, (_, i) => center([0, 2, 1][rowOf(i)]!));
    // With eps above 0 noise of that time remains.
    const remaining = Array.from(samples.dataSync(), (v, i) => v - mapping.alpha(eps) * data[i]!);
    if (eps === 0) expect(relativeError(samples.dataSync(), data)).toBeLessThan(1e-11);
    else expect(Math.max(...remaining.map(Math.abs))).toBeLessThan(3 * mapping.sigma(eps));
    expect(evaluations).toBe(net.calls.length);
  });

  it('restarts with the noise it is given, each time at its own', () => {
    const net = new PointNetwork(mapping);
    const times = [T, 0.6, 0.25, eps];
    const noise = [latents(7), latents(8)];
    const z = latents();
    const { samples } = sampleRestart(net, z, { mapping, labels: labels(), times, noise });
    expect(net.calls.map(({ t }) => t[0]! / 1000)).toEqual([T, 0.6, 0.25].map((t) => expect.closeTo(t, 14)));
    expect(net.calls.map(({ second }) => second[0]! / 1000)).toEqual([eps, eps, eps]);
    // The law of x_t given x_ε, whose noise adds in variance.
    let x = Float64Array.from(z.dataSync());
    for (let step = 0; step < 3; step++) {
      const [t, next] = [times[step]!, times[step + 1]!];
      x = x.map((v, i) => {
        const data = center([0, 2, 1][rowOf(i)]!);
        const n = (v - mapping.alpha(t) * data) / mapping.sigma(t);
        const y = mapping.alpha(eps) * data + mapping.sigma(eps) * n;
        if (step === 2) return y;
        const kept = mapping.alpha(next) / mapping.alpha(eps);
        const spread = Math.sqrt(mapping.sigma(next) ** 2 - (kept * mapping.sigma(eps)) ** 2);
        return kept * y + spread * noise[step]!.dataSync()[i]!;
      });
    }
    expect(relativeError(samples.dataSync(), x)).toBeLessThan(1e-12);
  });
});

describe('guidance', () => {
  it('moves away from what the network gives without a class, in one batch of twice the size', () => {
    const mapping = immMapping(immPresets.digits);
    const net = new PointNetwork(mapping);
    const { samples, evaluations } = samplePushforward(net, latents(), {
      mapping,
      labels: labels(),
      guidance: 3,
      steps: 2,
    });
    expect(evaluations).toBe(4);
    expect(net.calls.map(({ labels, t }) => [labels, t.length])).toEqual([
      [[0, 2, 1, -1, -1, -1], 6],
      [[0, 2, 1, -1, -1, -1], 6],
    ]);
    const one = samplePushforward(net, latents(), { mapping, labels: labels(), guidance: 3 });
    const expected = Array.from({ length: 12 }, (_, i) => 0.5 + 3 * (center([0, 2, 1][rowOf(i)]!) - 0.5));
    expect(relativeError(one.samples.dataSync(), expected)).toBeLessThan(0.02); // T is 0.994, not 1
    expect(samples.shape).toEqual([3, 2, 2]);
  });

  it('is continuous at 1, where it costs nothing', () => {
    const mapping = immMapping();
    const run = (guidance: number) =>
      sampleRestart(new PointNetwork(mapping), latents(), {
        mapping,
        labels: labels(),
        guidance,
        steps: 3,
        generator: new Generator(2),
      });
    expect([run(1).evaluations, run(1 + 1e-12).evaluations]).toEqual([3, 6]);
    expect(relativeError(run(1 + 1e-12).samples.dataSync(), run(1).samples.dataSync())).toBeLessThan(1e-10);
  });
});

describe('evaluateImm', () => {
  const mapping = immMapping();
  const x = () => tensor(Float64Array.from([1, 2]));

  it.each([
    ['raw', 'identity', 200],
    ['raw', 'stride', 300],
    [undefined, 'stride', 200],
  ] as const)('tells a network of second time %s with %s its times, in float64', (secondTime, temb, second) => {
    for (const [t, s] of [
      [
        [0.5, 0.5],
        [0.2, 0.2],
      ],
      [tensor([0.5, 0.5], { dtype: 'float64' }), tensor([0.2, 0.2], { dtype: 'float64' })],
      [tensor([0.5, 0.5], { dtype: 'float64' }), [0.2, 0.2]],
    ] as const) {
      const net = new PointNetwork(mapping, 1000, secondTime);
      evaluateImm(net, x(), t, s, { mapping, temb });
      const [call] = net.calls;
      expect(call!.dtype).toBe('float64');
      expect([...call!.t]).toEqual([500, 500]);
      expect(call!.second[0]).toBeCloseTo(second, 11);
      const scale = mapping.inputScale(0.5);
      expect([...call!.x]).toEqual([expect.closeTo(scale, 14), expect.closeTo(2 * scale, 14)]);
    }
  });

  it('leaves inputs and times as they are where asked to', () => {
    const net = new PointNetwork(mapping, 1);
    evaluateImm(net, x(), [0.5, 1], [0.2, 0], { mapping, timeScale: 1, inputScaling: false });
    const [call] = net.calls;
    expect([call!.x, call!.t, call!.second].map((values) => [...values])).toEqual([
      [1, 2],
      [0.5, 1],
      [0.2, 0],
    ]);
  });

  it('runs the diffusion transformer, which forms t - s itself', () => {
    const net = new nn.DiT({ imageSize: 4, patchSize: 2, channels: 1, width: 16, depth: 1, heads: 2, classes: 3 });
    const generator = new Generator(4);
    net.loadStateDict(
      new Map([...net.namedParameters()].map(([name, p]) => [name, randn(p.shape, { generator }).mul(0.3)])),
      { strict: false },
    );
    const z = randn([2, 1, 4, 4], { generator });
    const y = tensor(Int32Array.from([1, 2]));
    const { samples } = samplePushforward(net, z, {
      mapping,
      labels: y,
      guidance: 2,
      timeScale: 1,
      inputScaling: false,
    });
    const [t, s] = [tensor([0.994, 0.994], { dtype: 'float64' }), tensor([0, 0], { dtype: 'float64' })];
    const [F, none] = [net.forward(z, t, s, { labels: y }), net.forward(z, t, s)];
    const expected = z.sub(none.add(F.sub(none).mul(2)).mul(0.994 * 0.5));
    expect(relativeError(samples.dataSync(), expected.dataSync())).toBeLessThan(1e-6);
    expect(() => evaluateImm(net, z, [1, 1], [0, 0], { mapping, temb: 'identity' })).toThrow(
      /^evaluateImm: temb must be 'stride' for a network that embeds t − s itself .* got 'identity'/,
    );
  });

  it('refuses what it cannot do', () => {
    const net = new PointNetwork(mapping);
    const call = (t: number[] | Tensor, s: number[] | Tensor, options = {}) =>
      evaluateImm(net, x(), t, s, { mapping, ...options });
    expect(() => call([0.5], [0.2, 0.2])).toThrow(ShapeError);
    expect(() => call([0.5, 0.5], [0.6, 0])).toThrow(/s must be at most t 0.5, got 0.6/);
    expect(() => call([0.5, 2], [0, 0])).toThrow(/t must be in \[0, 1\], got 2/);
    expect(() => call(tensor([0.5]), [0, 0])).toThrow(/t must have shape \[2\], got \[1\]/);
    expect(() => call([1, 1], [0, 0], { temb: 'sinus' })).toThrow(/temb must be 'identity' or 'stride', got 'sinus'/);
    expect(() => call([1, 1], [0, 0], { timeScale: 0 })).toThrow(/timeScale must be a finite number above 0, got 0/);
    expect(() => call([1, 1], [0, 0], { mapping: undefined })).toThrow(/mapping must be what immMapping gives/);
    const dit = new nn.DiT({ imageSize: 4, patchSize: 2, channels: 1, width: 16, depth: 1, heads: 2, classes: 0 });
    const out = evaluateImm(dit, randn([2, 1, 4, 4]), tensor([0.5, 2]), tensor([0, 0]), { mapping });
    expect(() => out.mul(0).dataSync()).toThrow(NumericalError);
  });
});

describe('timeGrid', () => {
  const mapping = immMapping(immPresets.cifar10);

  it('spaces times evenly, by η, or as told', () => {
    expect(timeGrid({ mapping, steps: 2 })).toEqual([0.994, 0.5, 0.006]);
    const edm = timeGrid({ mapping, steps: 4, grid: 'edm' });
    const roots = edm.map((t) => mapping.eta(t) ** (1 / 7));
    const step = (roots[4]! - roots[0]!) / 4;
    expect(roots).toEqual(roots.map((_, i) => expect.closeTo(roots[0]! + i * step, 12)));
    expect([edm[0], edm[4]]).toEqual([0.994, 0.006]);
    expect(timeGrid({ mapping, grid: 'mid', mid: [3, 1] })).toEqual([0.994, 0.75, 0.5, 0.006]);
    expect(timeGrid({ mapping, grid: 'mid' })).toEqual([0.994, 0.006]);
    expect(timeGrid({ mapping })).toEqual([0.994, 0.006]);
  });

  it.each([
    [{ steps: 0 }, /^timeGrid: steps must be a positive integer, got 0/],
    [{ steps: 1.5 }, /steps must be a positive integer, got 1.5/],
    [{ grid: 'cosine' }, /grid must be one of 'uniform', 'edm', 'mid', got 'cosine'/],
    [{ mid: 1 }, /mid must be absent unless grid is 'mid', got it with 'uniform'/],
    [{ grid: 'mid', steps: 3, mid: 1 }, /mid must hold steps - 1 = 2 values of η, got 1/],
    [{ grid: 'mid', mid: [1, 3] }, /the times of mid must fall, got 0.75 after 0.5/],
    [{ grid: 'mid', mid: 1e6 }, /the times of mid must fall/],
    [{ grid: 'mid', mid: -1 }, /eta must be at least 0, got -1/],
    [{ grid: 'edm', rho: 0 }, /rho must be a finite number above 0, got 0/],
    [{ grid: 'edm', mapping: immMapping({ T: 1 }) }, /T must be below 1 for grid 'edm', got 1/],
  ])('refuses %j', (options, message) => {
    const make = () => timeGrid({ mapping, ...options } as never);
    expect(make).toThrow(ArgumentError);
    expect(make).toThrow(message);
  });
});

describe('the samplers', () => {
  const mapping = immMapping();

  it('repeat themselves from a generator, and keep nothing but the samples', () => {
    const net = new PointNetwork(immMapping({ eps: 0.1 }));
    const run = (seed: number) =>
      sampleRestart(net, z, { mapping, labels: y, steps: 3, guidance: 2, generator: new Generator(seed) }).samples;
    const [z, y] = [latents(), labels()];
    const before = memory().tensors;
    const [a, b, c] = [run(1), run(1), run(2)];
    expect(memory().tensors).toBe(before + 3);
    expect([...a.dataSync()]).toEqual([...b.dataSync()]);
    expect([...a.dataSync()]).not.toEqual([...c.dataSync()]);
  });

  it.each([
    [{ guidance: Number.NaN }, /^sampleRestart: guidance must be a finite number, got NaN/],
    [{ guidance: 2 }, /labels must be given where guidance is not 1, got none/],
    [{ times: [1, 0], steps: 1 }, /times must be given alone .* got both/],
    [{ times: [0.5] }, /times must be at least two, got 1/],
    [{ times: [0.2, 0.5] }, /times must fall, got 0.5 after 0.2/],
    [{ times: [2, 0] }, /times must be in \[0, 1\], got 2 at index 0/],
    [{ times: [1, Number.NaN] }, /times must be in \[0, 1\], got NaN at index 1/],
    [{ temb: 'identity' }, /^sampleRestart: temb must be 'stride'/],
    [{ steps: 3, noise: [] }, /noise must hold 2 tensors, got 0/],
    [{ mapping: null }, /mapping must be what immMapping gives, got object/],
  ])('refuse %j before evaluating', (options, message) => {
    const net = new PointNetwork(mapping);
    const call = () => sampleRestart(net, latents(), { mapping, ...options } as never);
    expect(call).toThrow(ArgumentError);
    expect(call).toThrow(message);
    expect(net.calls).toEqual([]);
  });

  it('refuse noise of another shape', () => {
    const noise = [tensor([1, 2])];
    expect(() => sampleRestart(new PointNetwork(mapping), latents(), { mapping, steps: 2, noise })).toThrow(
      /noise 0 must have the shape \[3, 2, 2\] of latents, got \[2\]/,
    );
  });
});
