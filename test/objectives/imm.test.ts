// The loss of Inductive Moment Matching: against the paper's formulas in plain numbers, gradients against differences with the
// target held, its special cases, what is drawn, what is refused.
import {
  drawImmBatch,
  functionalCall,
  Generator,
  type ImmMapping,
  type ImmOptions,
  immCases,
  immLoss,
  immMapping,
  mmd,
  nn,
  noGrad,
  randn,
  type Tensor,
  tensor,
  valueAndGrad,
} from '../../lib';
import { relativeError, sample } from '../support/checkOp';

const options: nn.DiTOptions = {
  imageSize: 4,
  patchSize: 2,
  channels: 1,
  width: 16,
  depth: 1,
  heads: 2,
  classes: 3,
};
const features = 16;

function makeNet(dtype: 'float32' | 'float64' | 'bfloat16', seed = 1): nn.DiT {
  const net = new nn.DiT(options).to({ dtype });
  const generator = new Generator(seed);
  net.loadStateDict(
    new Map(
      [...net.namedParameters()].map(([name, p]) => [name, randn(p.shape, { generator, dtype: 'float64' }).mul(0.3)]),
    ),
    { strict: false },
  );
  return net;
}

const times = { t: [0.9, 0.35], s: [0.2, 0.1] };

function makeBatch(dtype: 'float32' | 'float64', size = 6) {
  const at = (seed: number) =>
    tensor(Float64Array.from(Array.from(sample([size, 1, 4, 4], seed).values)), { shape: [size, 1, 4, 4], dtype });
  const labels = Int32Array.from({ length: size }, (_, i) => (2 * i < size ? -1 : 1));
  return { x: at(1), noise: at(2), labels: tensor(labels) };
}

const mapping = immMapping({ sigmaData: 1, k: 6 });
const settings: ImmOptions = { mapping, particles: 3, timeScale: 10 };

/** f_{t→s}(x_t) in plain numbers, from the network's output. */
function jump(net: nn.DiT, map: ImmMapping, from: number[], to: number[], inputs: ReturnType<typeof makeBatch>) {
  const { x, noise, labels } = inputs;
  const [data, n] = [x.dataSync(), noise.dataSync()] as Float64Array[];
  const particles = x.shape[0]! / from.length;
  const groupOf = (i: number) => Math.floor(i / features / particles);
  const at = Float64Array.from(
    data!,
    (v, i) => map.alpha(from[groupOf(i)]!) * v + map.sigma(from[groupOf(i)]!) * n![i]!,
  );
  const rows = (values: number[]) =>
    Float64Array.from(
      data!.filter((_, i) => i % features === 0),
      (_, i) => 10 * values[Math.floor(i / particles)]!,
    );
  const scaled = Float64Array.from(at, (v, i) => v * map.inputScale(from[groupOf(i)]!));
  const F = net
    .forward(tensor(scaled, { shape: x.shape }), tensor(rows(from)), tensor(rows(to)), { labels })
    .dataSync() as Float64Array;
  return Float64Array.from(at, (v, i) => {
    const { skip, out } = map.coefficients(to[groupOf(i)]!, from[groupOf(i)]!);
    return skip * v + out * F[i]!;
  });
}

/** The squared discrepancy with the Laplace kernel, pair by pair. */
function laplace(y: Float64Array, z: Float64Array, group: number, particles: number, weight: number): number {
  const k = (a: Float64Array, i: number, b: Float64Array, j: number) => {
    let sum = 0;
    for (let p = 0; p < features; p++) {
      sum += (a[(group * particles + i) * features + p]! - b[(group * particles + j) * features + p]!) ** 2;
    }
    return Math.exp((-weight * Math.max(Math.sqrt(sum), 1e-8)) / features);
  };
  let total = 0;
  for (let i = 0; i < particles; i++) {
    for (let j = 0; j < particles; j++) total += k(y, i, y, j) + k(z, i, z, j) - 2 * k(y, i, z, j);
  }
  return total / particles ** 2;
}

const read = (x: Tensor) => x.dataSync() as Float64Array;

describe('immLoss', () => {
  it.each([
    ['fm', 'euler_fm', 1],
    ['fm', 'simple_edm', 2],
    ['fm', 'identity', 0],
    ['vp_cosine', 'simple_edm', 1],
    ['vp_cosine', 'identity', 0.5],
  ] as const)('is what the paper writes, on %s with f %s and α to the power of %d', (schedule, f, a) => {
    const map = immMapping({ sigmaData: 1, k: 6, schedule, f, a });
    const [net, batch] = [makeNet('float64'), makeBatch('float64')];
    const result = immLoss(net, { ...batch, ...times }, { ...settings, mapping: map });
    const r = times.t.map((t, g) => map.r(times.s[g]!, t));
    const [y, z] = [jump(net, map, times.t, times.s, batch), jump(net, map, r, times.s, batch)];
    const expected = times.t.map((t, g) => laplace(y, z, g, 3, map.kernelWeight(times.s[g]!, t)));
    expect(relativeError(read(result.mmd), expected)).toBeLessThan(1e-10);
    const loss = expected.reduce((sum, value, g) => sum + map.weight(times.s[g]!, times.t[g]!) * value, 0) / 2;
    expect(Math.abs(result.loss.itemSync() / loss - 1)).toBeLessThan(1e-10);
  });

  const gradientsOf = (dtype: 'float32' | 'float64', more: Partial<ImmOptions> = {}) => {
    const net = makeNet(dtype);
    const [, found] = valueAndGrad(
      (params: Map<string, Tensor>) =>
        functionalCall(net, params, () => immLoss(net, { ...makeBatch(dtype), ...times }, { ...settings, ...more }))
          .loss,
    )(net.namedParameters());
    return { net, found: found as Map<string, Tensor> };
  };

  it.each(['laplace', 'rbf', 'imq', 'energy', 'l2'] as const)(
    'has the gradients of its differences with the target held, kernel %s',
    (kernel) => {
      const { net, found } = gradientsOf('float64', { kernel });
      const batch = makeBatch('float64');
      const shape = [2, 3, features];
      const r = times.t.map((t, g) => mapping.r(times.s[g]!, t));
      const target = tensor(jump(net, mapping, r, times.s, batch), { shape });
      const per = (of: (s: number, t: number) => number) => times.t.map((t, g) => of(times.s[g]!, t));
      const [kernelWeight, weight] = [per(mapping.kernelWeight), per(mapping.weight)];
      const held = (params: ReadonlyMap<string, Tensor>) =>
        noGrad(() => {
          const y = functionalCall(net, params, () => tensor(jump(net, mapping, times.t, times.s, batch), { shape }));
          if (kernel !== 'l2') {
            const each = mmd(y, target, { kernel, weight: tensor(Float64Array.from(kernelWeight)) });
            return [...read(each)].reduce((sum, value, g) => sum + (weight[g]! * value) / 2, 0);
          }
          const apart = read(y.mean(1).sub(target.mean(1)).square().sum(1));
          return apart.reduce((sum, d, g) => sum + (weight[g]! * kernelWeight[g]! * 2 * d) / features / 2, 0);
        });
      for (const name of [
        'blocks.0.attn.qkv.weight',
        's_embedder.mlp.0.weight',
        'final_layer.linear.bias',
        'y_embedder.embedding_table.weight',
      ]) {
        const p = net.namedParameters().get(name)!;
        const direction = randn(p.shape, { dtype: 'float64', generator: new Generator(9) });
        const value = (by: number) => held(new Map([[name, p.add(direction.mul(by))]]));
        const difference = (value(1e-5) - value(-1e-5)) / 2e-5;
        const slope = found.get(name)!.mul(direction).sum().itemSync();
        expect(Math.abs(slope - difference)).toBeLessThan(1e-5 * Math.abs(difference) + 1e-9);
      }
    },
  );

  it('agrees in float32 with float64, gradients to 2e-4', () => {
    const [narrow, wide] = [gradientsOf('float32').found, gradientsOf('float64').found];
    const flat = (g: Map<string, Tensor>) => [...g.values()].flatMap((x) => [...read(x)]);
    expect(relativeError(flat(narrow), flat(wide))).toBeLessThan(2e-4);
  });

  it('keeps the discrepancy in float32 where the network runs in bfloat16', () => {
    const net = makeNet('bfloat16');
    const { loss, mmd: each } = immLoss(net, { ...makeBatch('float32'), ...times }, settings);
    expect([loss.dtype, each.dtype]).toEqual(['float32', 'float32']);
    expect(Number.isFinite(loss.itemSync())).toBe(true);
    const half = makeBatch('float32');
    const narrow = { ...half, x: half.x.to({ dtype: 'bfloat16' }), noise: half.noise.to({ dtype: 'bfloat16' }) };
    expect(immLoss(net, { ...narrow, ...times }, settings).mmd.dtype).toBe('float32');
  });

  it('is deterministic with times and noise given, and takes times as numbers or tensors', () => {
    const [net, batch] = [makeNet('float64'), makeBatch('float64')];
    const value = (given: object) => read(immLoss(net, { ...batch, ...given } as never, settings).mmd);
    const asTensors = { t: tensor(Float64Array.from(times.t)), s: tensor(Float64Array.from(times.s)) };
    expect([...value(asTensors)]).toEqual([...value(times)]);
    const r = tensor(Float64Array.from(times.t, (t, g) => mapping.r(times.s[g]!, t)));
    expect([...value({ ...asTensors, r })]).toEqual([...value(times)]);
    expect([...value(times)]).toEqual([...value(times)]);
  });

  it('draws times in their ranges, noise, and drops classes of whole groups, all from its generator', () => {
    const net = makeNet('float32');
    const { x, labels } = makeBatch('float32', 12);
    const seen: number[][] = [];
    const forward = net.forward.bind(net);
    net.forward = (...args) => {
      seen.push([...(args[1].dataSync() as Float64Array)], [...(args[3]!.labels!.dataSync() as Int32Array)]);
      return forward(...args);
    };
    const once = () =>
      immLoss(net, { x, labels }, { ...settings, labelDropout: 0.5, generator: new Generator(4) }).loss.itemSync();
    const first = once();
    const [at, dropped] = seen as [number[], number[]];
    expect(once()).toBe(first);
    for (let group = 0; group < 4; group++) {
      expect(new Set(at.slice(3 * group, 3 * group + 3)).size).toBe(1);
      const kept = dropped.slice(3 * group, 3 * group + 3).some((label) => label >= 0);
      const original = [...(labels.dataSync() as Int32Array)].slice(3 * group, 3 * group + 3);
      if (kept) expect(dropped.slice(3 * group, 3 * group + 3)).toEqual(original);
    }
    expect(new Set(at).size).toBe(4);
    expect(Math.max(...at)).toBeLessThan(9.94);
  });

  it('is of a batch drawn beforehand what it is of the one it draws', () => {
    const net = makeNet('float32');
    const { x, labels } = makeBatch('float32', 12);
    const draws = { mapping, particles: 3, labelDropout: 0.5 };
    for (const times of [{}, { t: 0.9 }]) {
      const drawn = drawImmBatch({ x, labels }, { ...draws, times, generator: new Generator(4) });
      const direct = immLoss(net, { x, labels }, { ...settings, ...draws, times, generator: new Generator(4) });
      expect([...read(immLoss(net, drawn, settings).mmd)]).toEqual([...read(direct.mmd)]);
      expect([drawn.t.dtype, drawn.t.shape, drawn.noise.dtype]).toEqual(['float64', [4], 'float32']);
      const [t, s, r] = [drawn.t, drawn.s, drawn.r].map(read);
      expect([...r!]).toEqual([...t!].map((time, g) => mapping.r(s![g]!, time)));
    }
  });

  it.each([0, 1])('says nothing where s = t, with α to the power of %d', (a) => {
    const [net, batch] = [makeNet('float64'), makeBatch('float64')];
    const given = { ...settings, mapping: immMapping({ sigmaData: 1, k: 6, a }) };
    for (const at of [0, 0.5, 1]) {
      const { loss, mmd: each } = immLoss(net, { ...batch, t: [at, 0.9], s: [at, 0.1] }, given);
      expect(Math.abs(read(each)[0]!)).toBeLessThan(1e-15); // the rounding of a sum of kernels
      expect(Number.isFinite(loss.itemSync())).toBe(true);
    }
  });
});

describe('special cases', () => {
  it('with one particle and the l2 kernel is consistency training', () => {
    const [net, batch] = [makeNet('float64'), makeBatch('float64', 4)];
    const map = immMapping({ sigmaData: 1, k: 6, eps: 0.01 });
    const t = [0.9, 0.5, 0.3, 0.7];
    const given = { ...settings, mapping: map, ...immCases.ct(map) };
    const s = t.map(() => 0.01);
    const loss = immLoss(net, { ...batch, t, s }, given).loss.itemSync();
    const r = t.map((time) => map.r(0.01, time));
    const [y, z] = [jump(net, map, t, s, batch), jump(net, map, r, s, batch)];
    let expected = 0;
    for (const [i, time] of t.entries()) {
      let square = 0;
      for (let p = 0; p < features; p++) square += (y[i * features + p]! - z[i * features + p]!) ** 2;
      const weight = (2 * map.weight(0.01, time) * map.kernelWeight(0.01, time)) / features;
      expected += (weight * square) / 4;
    }
    expect(Math.abs(loss / expected - 1)).toBeLessThan(1e-10);
    // Drawn, every jump ends at eps.
    const seen: number[] = [];
    const forward = net.forward.bind(net);
    net.forward = (...args) => {
      seen.push(...(args[2].dataSync() as Float64Array));
      return forward(...args);
    };
    immLoss(net, batch, { ...given, generator: new Generator(1) }).loss.itemSync();
    expect(new Set(seen.map((time) => time.toFixed(12)))).toEqual(new Set([(0.1).toFixed(12)]));
  });

  it('from t = 1 to s = r = 0 is the generative moment matching network: jumps from noise against data', () => {
    const [net, batch] = [makeNet('float64'), makeBatch('float64')];
    const bandwidths = [0.5, 1, 2];
    const { mmd: found, loss } = immLoss(
      net,
      { x: batch.x, noise: batch.noise, labels: batch.labels },
      { ...settings, ...immCases.gmmn(), kernel: 'rbf', bandwidths, labelDropout: 0 },
    );
    const generated = jump(net, mapping, [1, 1], [0, 0], batch);
    const shape = [2, 3, features];
    const direct = mmd(tensor(generated, { shape }), batch.x.reshape(shape), { kernel: 'rbf', bandwidths });
    expect(relativeError(read(found), read(direct))).toBeLessThan(1e-10);
    expect(loss.itemSync()).toBeCloseTo((read(direct)[0]! + read(direct)[1]!) / 2, 12);
  });
});

describe('refusals', () => {
  const [net, batch] = [makeNet('float32'), makeBatch('float32')];
  it.each([
    [
      'particles that do not divide the batch',
      {},
      { particles: 4 },
      /immLoss: particles must divide the batch of 6, got 4/,
    ],
    ['no particles', {}, { particles: 0 }, /particles must be an integer from 1 to 64, got 0/],
    ['t without s', { t: [0.5, 0.5] }, {}, /batch must give t and s together/],
    ['times out of order', { t: [0.5, 0.5], s: [0.1, 0.6] }, {}, /0 ≤ s ≤ t ≤ 1, got s 0.6, t 0.5 for group 1/],
    ['a time out of range', { t: [1.5, 0.5], s: [0, 0] }, {}, /got s 0, t 1.5 for group 0/],
    ['a NaN time', { t: [Number.NaN, 0.5], s: [0, 0] }, {}, /t NaN for group 0/],
    ['r below s', { t: [0.5, 0.5], s: [0.1, 0.1], r: [0.05, 0.2] }, {}, /r must be in \[s, t\]/],
    ['times of each sample', { t: [0.5, 0.5, 0.5], s: [0, 0, 0] }, {}, /t must have shape \[2\], one for each group/],
    ['an unknown kernel', {}, { kernel: 'gauss' }, /kernel/],
    ['an unknown option', {}, { partciles: 3 }, /options must be among .* got 'partciles'/],
    ['bandwidths of l2', {}, { kernel: 'l2', bandwidths: [1] }, /must be absent with the kernel 'l2'/],
    ['the identity embedding', {}, { temb: 'identity' }, /temb must be 'stride'/],
    [
      'a weight without bound',
      { t: [1, 0.5], s: [0, 0] },
      { mapping: immMapping({ a: 0 }) },
      /weight is finite, got 1/,
    ],
    [
      'noise of another shape',
      { noise: batch.x.reshape([6, 16]) },
      {},
      /noise must have shape \[6, 1, 4, 4\], got \[6, 16\]/,
    ],
    ['a label for each group', { labels: tensor([0, 1]) }, {}, /labels must have shape \[6\], got \[2\]/],
    ['a dropout of 2', {}, { labelDropout: 2 }, /labelDropout must be in \[0, 1\], got 2/],
  ])('names %s', (_, given, more, message) => {
    expect(() => immLoss(net, { ...batch, ...given } as never, { ...settings, ...more } as never)).toThrow(message);
  });

  it.each([
    ['out of order', [0.5, 0.5], [0.1, 0.6], [0.4, 0.5], /a time of a group, .* row 1/],
    ['out of range', [1.5, 0.5], [0, 0], [0.4, 0.4], /a time of a group, .* row 0/],
    ['below 0', [0.5, 0.5], [0, -0.1], [0.4, 0.4], /a time of a group, .* row 1/],
    ['no number', [Number.NaN, 0.5], [0, 0], [0.4, 0.4], /a time of a group, .* row 0/],
    ['with an r past t', [0.5, 0.5], [0, 0], [0.4, 0.6], /a time of a group, .* row 1/],
    ['with an r before s', [0.5, 0.5], [0.1, 0.1], [0.4, 0.05], /a time of a group, .* row 1/],
    ['with a weight without bound', [0.5, 1], [0, 0], [0.4, 0.4], /the mapping's weight of a group .* row 1/],
  ])('names the group whose times are tensors %s, at the read', (_, t, s, r, message) => {
    const [at, to, from] = [t, s, r].map((values) => tensor(Float64Array.from(values)));
    const given = { ...settings, mapping: immMapping({ sigmaData: 1, a: 0 }) };
    const { loss } = immLoss(net, { ...batch, t: at, s: to, r: from }, given);
    expect(() => loss.itemSync()).toThrow(message);
  });

  it('names the group whose data are not finite, at the read', () => {
    const x = batch.x.mul(tensor([1, 1, 1, 1, Number.NaN, 1], { shape: [6, 1, 1, 1], dtype: 'float32' }));
    const { loss } = immLoss(net, { ...batch, ...times, x }, settings);
    expect(() => loss.itemSync()).toThrow(/moment matching loss.*1/);
  });
});
