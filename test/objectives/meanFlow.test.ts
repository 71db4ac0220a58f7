// MeanFlow: its parts against a composition of its own, its gradients against differences with the target held, guards.
import {
  ArgumentError,
  drawMeanFlowBatch,
  flowMatchingLoss,
  functionalCall,
  Generator,
  grad,
  meanFlowLoss,
  NumericalError,
  type nn,
  noGrad,
  randn,
  ShapeError,
  type Tensor,
  tensor,
  valueAndGrad,
} from '../../lib';
import { relativeError } from '../support/checkOp';
import { makeBatch, makeNet } from '../support/tinyDit';

const batchOf = (dtype: 'float32' | 'float64') => {
  const { x, noise, labels, t, s } = makeBatch(dtype);
  return { x, noise, labels, t, s };
};
const column = (t: Tensor) => t.reshape([4, 1, 1, 1]);

// v' and the target in plain steps: the total derivative is a difference along the path, of a network without any tape.
function targetOf(net: nn.DiT, cfg: number): { xt: Tensor; target: Tensor } {
  const { x, noise, labels, t, s } = batchOf('float64');
  return noGrad(() => {
    const xt = x.mul(column(t).mul(-1).add(1)).add(noise.mul(column(t)));
    const plain = noise.sub(x);
    const free = net.forward(xt, t, t, { labels: null });
    const guided = plain.mul(cfg).add(free.mul(1 - cfg));
    const v = tensor(
      Float64Array.from(plain.dataSync(), (value, i) =>
        labels.dataSync()[i >> 4] === -1 ? value : guided.dataSync()[i]!,
      ),
      { shape: [4, 1, 4, 4] },
    );
    const at = (h: number) => net.forward(xt.add(v.mul(h)), t.add(h), s, { labels });
    const first = (h: number) =>
      at(h)
        .sub(at(-h))
        .div(2 * h);
    // Richardson: the error is of fourth order in h.
    const slope = first(5e-4).mul(4).sub(first(1e-3)).div(3);
    return { xt, target: v.sub(slope.mul(column(t.sub(s)))) };
  });
}

const flat = (map: ReadonlyMap<string, Tensor>) => [...map.values()].flatMap((g) => [...g.dataSync()]);

describe('meanFlowLoss', () => {
  it.each([
    [1, 1],
    [1, 0],
    [2.5, 0.5],
  ])('is the weighted error of the paper, with guidance %d and power %d', (cfg, power) => {
    const net = makeNet('float64');
    const { labels, t, s } = batchOf('float64');
    const { xt, target } = targetOf(net, cfg);
    const errors = net.forward(xt, t, s, { labels }).sub(target).square().mean([1, 2, 3]).dataSync();
    const { loss, meanFlow } = meanFlowLoss(net, batchOf('float64'), { cfg, power, offset: 0.01 });
    expect(meanFlow.shape).toEqual([4]);
    expect(relativeError(meanFlow.dataSync(), errors)).toBeLessThan(1e-8);
    const weighted = [...errors].map((error) => error / (error + 0.01) ** power);
    expect(loss.itemSync()).toBeCloseTo(weighted.reduce((a, b) => a + b, 0) / 4, 7);
  });

  it.each([1, 2.5])('has the gradient of a regression on a held target with held weights, with guidance %d', (cfg) => {
    const net = makeNet('float64');
    const { labels, t, s } = batchOf('float64');
    const { xt, target } = targetOf(net, cfg);
    const weights = meanFlowLoss(net, batchOf('float64'), { cfg }).meanFlow.add(1e-3).reciprocal();
    const gradientOf = (loss: () => Tensor) =>
      grad((params: Map<string, Tensor>) => functionalCall(net, params, loss))(net.namedParameters()) as Map<
        string,
        Tensor
      >;
    const held = gradientOf(() =>
      net.forward(xt, t, s, { labels }).sub(target).square().mean([1, 2, 3]).mul(weights).mean(),
    );
    const found = gradientOf(() => meanFlowLoss(net, batchOf('float64'), { cfg }).loss);
    expect([...found.keys()]).toEqual([...held.keys()]);
    for (const [name, g] of found)
      expect([name, relativeError(g.dataSync(), held.get(name)!.dataSync()) < 1e-7]).toEqual([name, true]);
    // And of that regression the gradient is what differences say.
    for (const name of ['blocks.0.attn.qkv.weight', 't_embedder.mlp.0.weight', 's_embedder.mlp.0.weight']) {
      const p = net.namedParameters().get(name)!;
      const direction = randn(p.shape, { dtype: 'float64', generator: new Generator(9) });
      const value = (by: number) =>
        functionalCall(net, new Map([[name, p.add(direction.mul(by))]]), () =>
          net.forward(xt, t, s, { labels }).sub(target).square().mean([1, 2, 3]).mul(weights).mean().itemSync(),
        );
      const difference = (value(1e-5) - value(-1e-5)) / 2e-5;
      expect(found.get(name)!.mul(direction).sum().itemSync()).toBeCloseTo(difference, 6);
    }
  });

  it('gives the derivative and the guidance no gradient', () => {
    // A network whose parameters a and b meet the loss in the derivative and in the class-free evaluation alone.
    const net = makeNet('float64');
    const [a, b] = [tensor([0.3], { dtype: 'float64' }), tensor([0.7], { dtype: 'float64' })];
    const { x, noise, labels, t, s } = batchOf('float64');
    const forward = net.forward.bind(net);
    const loss = (first: Tensor, second: Tensor) => {
      net.forward = (given, time, until, condition) => {
        const F = forward(given, time, until, condition);
        // (time − t) is zero with slope one: a contributes to dF/dt, not to F.
        const still = column(time.sub(t)).mul(first);
        return condition?.labels ? F.add(still) : F.add(second);
      };
      return meanFlowLoss(net, { x, noise, labels, t, s }, { cfg: 2 }).loss;
    };
    const [value, gradients] = valueAndGrad(loss, { argnums: [0, 1] })(a, b);
    expect(gradients.map((g: Tensor) => g.itemSync())).toEqual([0, 0]);
    expect(loss(a.add(1), b).itemSync()).not.toBe(value.itemSync());
    expect(loss(a, b.add(1)).itemSync()).not.toBe(value.itemSync());
  });

  it('is flow matching where s = t and the power is 0, in value and gradients', () => {
    const net = makeNet('float64');
    const { x, noise, labels, t } = batchOf('float64');
    const run = (loss: () => Tensor) =>
      valueAndGrad((params: Map<string, Tensor>) => functionalCall(net, params, loss))(net.namedParameters()) as [
        Tensor,
        Map<string, Tensor>,
      ];
    const [mean, meanGradients] = run(() => meanFlowLoss(net, { x, noise, labels, t, s: t }, { power: 0 }).loss);
    const [flow, flowGradients] = run(() => flowMatchingLoss(net, { x, noise, labels, t }).loss);
    expect(mean.itemSync()).toBeCloseTo(flow.itemSync(), 13);
    expect(relativeError(flat(meanGradients), flat(flowGradients))).toBeLessThan(1e-12);
    const settings = { times: { mean: 0, std: 1 }, labelDropout: 0 };
    const drawn = meanFlowLoss(net, { x, noise, labels }, { ...settings, equalShare: 1, power: 0 });
    expect(drawn.loss.itemSync()).toBeGreaterThan(0);
  });

  it('agrees between float32 and float64 in every parameter gradient together', () => {
    const run = (dtype: 'float32' | 'float64') => {
      const net = makeNet(dtype);
      return flat(
        grad((params: Map<string, Tensor>) =>
          functionalCall(net, params, () => meanFlowLoss(net, batchOf(dtype), { cfg: 2 }).loss),
        )(net.namedParameters()) as Map<string, Tensor>,
      );
    };
    expect(relativeError(run('float32'), run('float64'))).toBeLessThan(2e-5);
  });

  it('has finite losses and gradients in bfloat16, near those of float64', () => {
    const run = (narrow: boolean) => {
      const net = makeNet('bfloat16');
      if (!narrow) net.to({ dtype: 'float64' });
      const [value, found] = valueAndGrad((params: Map<string, Tensor>) =>
        functionalCall(
          net,
          params,
          () => meanFlowLoss(net, batchOf(narrow ? 'float32' : 'float64'), { power: 0 }).loss,
        ),
      )(net.namedParameters()) as [Tensor, Map<string, Tensor>];
      return { value: value.itemSync(), found: flat(found) };
    };
    const [narrow, wide] = [run(true), run(false)];
    expect(Math.abs(narrow.value / wide.value - 1)).toBeLessThan(0.01);
    expect(relativeError(narrow.found, wide.found)).toBeLessThan(0.03);
  });

  it('draws times by its law, the wanted share of them equal, and drops classes with them', () => {
    const net = makeNet('float32');
    const x = randn([2000, 1, 4, 4]);
    const labels = tensor(Int32Array.from({ length: 2000 }, (_, i) => i % 3));
    const seen: Record<'t' | 's' | 'labels', number[]> = { t: [], s: [], labels: [] };
    net.forward = (given, t, s, condition) => {
      // In the derivative tensors are traced; their values are read beneath it.
      const read = (y: Tensor) => [...y._primal().dataSync()];
      Object.assign(seen, { t: read(t), s: read(s), labels: read(condition!.labels!) });
      return given;
    };
    const draw = (seed: number, settings = {}) =>
      meanFlowLoss(net, { x, labels }, { generator: new Generator(seed), ...settings }).loss.itemSync();
    expect(draw(3)).toBe(draw(3));
    expect(draw(3)).not.toBe(draw(4));
    expect(seen.t.every((t, i) => t < 1 && seen.s[i]! <= t && seen.s[i]! > 0)).toBe(true);
    expect(seen.t.filter((t, i) => t === seen.s[i]).length).toBe(1500);
    expect(seen.labels.filter((label) => label === -1).length / 2000).toBeCloseTo(0.1, 1);
    draw(3, { equalShare: 0, labelDropout: 0, times: { mean: 1, std: 0.5 } });
    expect(seen.labels.every((label, i) => label === i % 3)).toBe(true);
    // The larger and the smaller of two draws have the law's mean between them.
    const logits = [...seen.t, ...seen.s].map((p) => Math.log(p / (1 - p)));
    expect(logits.reduce((a, b) => a + b, 0) / logits.length).toBeCloseTo(1, 1);
    const { noise, t, s, ...given } = batchOf('float32');
    meanFlowLoss(net, { ...given, noise, t, s }, { labelDropout: 1 });
    expect(seen.labels).toEqual([0, 2, -1, 1]);
  });

  it('is of a batch drawn beforehand what it is of the one it draws', () => {
    const net = makeNet('float32');
    const { x, labels } = batchOf('float32');
    const draws = { times: { mean: 0.5, std: 1 }, equalShare: 0.5, labelDropout: 0.5 };
    const direct = meanFlowLoss(net, { x, labels }, { ...draws, cfg: 2, generator: new Generator(5) });
    const drawn = drawMeanFlowBatch({ x, labels }, { ...draws, generator: new Generator(5) });
    expect([...meanFlowLoss(net, drawn, { cfg: 2 }).meanFlow.dataSync()]).toEqual([...direct.meanFlow.dataSync()]);
  });

  it('names the row that is not finite, and the one whose times are out of order or range', () => {
    const net = makeNet('float32');
    const batch = batchOf('float32');
    const values = Float32Array.from(batch.x.dataSync());
    values[40] = Number.NaN;
    const bad = meanFlowLoss(net, { ...batch, x: tensor(values, { shape: [4, 1, 4, 4] }) });
    expect(() => bad.loss.itemSync()).toThrow(NumericalError);
    expect(() => bad.meanFlow.dataSync()).toThrow(/mean flow loss is -?nan in row 2/);
    for (const [t, s] of [
      [0.5, 0.6],
      [1.1, 0.5],
      [0.5, -0.1],
      [Number.NaN, 0.1],
      [0.5, Number.NaN],
    ]) {
      const times = { t: tensor([1, t!, 0.5, 0.6]), s: tensor([0.1, s!, 0.5, 0]) };
      const { loss } = meanFlowLoss(net, { ...batch, ...times });
      expect(() => loss.itemSync()).toThrow(NumericalError);
      expect(() => loss.itemSync()).toThrow(/meanFlowLoss's t, with 0 <= s <= t <= 1, is -?nan in row 1/);
    }
  });

  it('refuses what does not fit', () => {
    const net = makeNet('float32');
    const { x, noise, labels, t, s } = batchOf('float32');
    const refused = (settings: object, message: RegExp) => {
      const call = () => meanFlowLoss(net, { x, noise, labels, t, s }, settings);
      expect(call).toThrow(ArgumentError);
      expect(call).toThrow(message);
    };
    refused({ cfg: Number.NaN }, /meanFlowLoss: cfg must be a finite number above 0, got NaN/);
    refused({ cfg: 0 }, /cfg must be .* got 0/);
    refused({ power: -1 }, /power must be .* at least 0, got -1/);
    refused({ offset: 0 }, /offset must be .* got 0/);
    refused({ equalShare: 1.5 }, /equalShare must be in \[0, 1\], got 1.5/);
    refused({ labelDropout: Number.NaN }, /labelDropout must be in \[0, 1\], got NaN/);
    expect(() => meanFlowLoss(net, { x }, { times: { mean: 0, std: -1 } })).toThrow(ArgumentError);
    expect(() => meanFlowLoss(net, { x, t })).toThrow(/batch must give t and s together, or neither/);
    expect(() => meanFlowLoss(net, { x, s })).toThrow(ArgumentError);
    const half = (y: Tensor) => y.slice([0], [2]);
    for (const bad of [{ noise: half(noise) }, { t: half(t) }, { s: half(s) }, { labels: half(labels) }]) {
      expect(() => meanFlowLoss(net, { x, noise, labels, t, s, ...bad })).toThrow(ShapeError);
    }
    expect(() => meanFlowLoss(net, { x: tensor(1) })).toThrow(ShapeError);
  });
});
