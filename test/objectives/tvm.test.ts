// The objectives: their parts against a direct evaluation, parameter gradients against differences and across dtypes,
// laws of the times, guards.
import {
  AdamW,
  drawFlowMatchingBatch,
  drawTvmBatch,
  Ema,
  flowMatchingLoss,
  functionalCall,
  Generator,
  jvp,
  NumericalError,
  noGrad,
  ones,
  randn,
  sampleEuler,
  sampleFlowMap,
  type Tensor,
  tensor,
  tvmLoss,
  tvmTimes,
  valueAndGrad,
} from '../../lib';
import { normalCdf, normalQuantile } from '../../lib/objectives/times';
import { relativeError } from '../support/checkOp';
import { makeBatch, makeNet } from '../support/tinyDit';

describe('tvmLoss', () => {
  it.each([false, true])('is the sum of its two terms as the paper writes them, scaled: %s', (doScaleParam) => {
    const [net, teacher] = [makeNet('float64'), makeNet('float64', 2)];
    const { x, noise, labels, t, s, sPrime, beta } = makeBatch('float64');
    const result = tvmLoss(net, teacher, { x, noise, labels, t, s, sPrime, beta }, { doScaleParam });
    const read = (y: Tensor) => y.dataSync();
    const mix = (time: Tensor) =>
      x.mul(time.mul(-1).add(1).reshape([4, 1, 1, 1])).add(noise.mul(time.reshape([4, 1, 1, 1])));
    const [xt, xs] = [mix(t), mix(sPrime)];
    const [F, dF] = jvp(
      (at: Tensor) => net.forward(xt, t, at, { labels, beta }),
      [s],
      [ones([4], { dtype: 'float64' })],
    );
    const terminal: number[] = [];
    const matching: number[] = [];
    const [fv, dv, x0, n0, xtv] = [F, dF, x, noise, xt].map(read) as never as Float64Array[];
    const [ts, ss, bs] = [t, s, beta].map(read) as never as Float64Array[];
    const jump = Float64Array.from(
      xtv!,
      (v, i) => v + (ss![i >> 4]! - ts![i >> 4]!) * (doScaleParam ? 1 / bs![i >> 4]! : 1) * fv![i]!,
    );
    const T1 = read(teacher.forward(tensor(jump, { shape: [4, 1, 4, 4] }), s, s, { labels, beta }));
    const T2 = read(teacher.forward(xs, sPrime, sPrime, { labels: null, beta: ones([4], { dtype: 'float64' }) }));
    const prime = read(net.forward(xs, sPrime, sPrime, { labels, beta }));
    for (let b = 0; b < 4; b++) {
      const w = 1 / bs![b]!;
      const o = doScaleParam ? w : 1;
      let [first, second] = [0, 0];
      for (let i = 16 * b; i < 16 * b + 16; i++) {
        const df = o * (fv![i]! + (ss![b]! - ts![b]!) * dv![i]!);
        first += (bs![b]! * (df - o * T1[i]!)) ** 2 / 16;
        second += (bs![b]! * (o * prime[i]! - (w * (n0![i]! - x0![i]!) + (1 - w) * T2[i]!))) ** 2 / 16;
      }
      terminal.push(ts![b] === ss![b] ? 0 : first);
      matching.push(second);
    }
    expect(relativeError(read(result.terminal), terminal)).toBeLessThan(1e-12);
    expect(relativeError(read(result.flowMatching), matching)).toBeLessThan(1e-12);
    expect(result.terminal.dataSync()[2]).toBe(0);
    expect(result.loss.itemSync()).toBeCloseTo([...terminal, ...matching].reduce((a, b) => a + b, 0) / 4, 10);
  });

  const gradients = (dtype: 'float32' | 'float64', settings = {}) => {
    const [net, teacher] = [makeNet(dtype), makeNet(dtype, 2)];
    const [value, found] = valueAndGrad(
      (params: Map<string, Tensor>) =>
        functionalCall(net, params, () => tvmLoss(net, teacher, makeBatch(dtype), settings)).loss,
    )(net.namedParameters());
    return { net, teacher, value, found: found as Map<string, Tensor> };
  };

  it('has the parameter gradients of its differences, the jump and its target held', () => {
    const { net, found } = gradients('float64', { detachJvp: false });
    // The targets depend on the parameters through sg(f) only, so differences are taken with that part frozen: here by
    // batches at s = t, where the jump is the identity, and of the flow matching term.
    const batch = makeBatch('float64');
    const still = { ...batch, s: batch.t };
    const teacher = makeNet('float64', 2);
    const loss = (params: ReadonlyMap<string, Tensor>) =>
      functionalCall(net, params, () => tvmLoss(net, teacher, still)).loss;
    const [, g] = valueAndGrad((params: Map<string, Tensor>) => loss(params))(net.namedParameters()) as [
      Tensor,
      Map<string, Tensor>,
    ];
    for (const name of [
      'blocks.0.attn.qkv.weight',
      't_embedder.mlp.0.weight',
      'final_layer.linear.bias',
      'y_embedder.embedding_table.weight',
    ]) {
      const p = net.namedParameters().get(name)!;
      const direction = randn(p.shape, { dtype: 'float64', generator: new Generator(9) });
      const value = (by: number) => noGrad(() => loss(new Map([[name, p.add(direction.mul(by))]])).itemSync());
      const difference = (value(1e-5) - value(-1e-5)) / 2e-5;
      expect(g.get(name)!.mul(direction).sum().itemSync()).toBeCloseTo(difference, 5);
    }
    expect(found.size).toBe(net.namedParameters().size);
  });

  it('agrees between float32 and float64 in every parameter gradient together', () => {
    const flat = (map: Map<string, Tensor>) => [...map.values()].flatMap((g) => [...g.dataSync()]);
    expect(relativeError(flat(gradients('float32').found), flat(gradients('float64').found))).toBeLessThan(2e-5);
  });

  it('differs where the derivative is detached, and only in gradients', () => {
    const [full, detached] = [gradients('float64'), gradients('float64', { detachJvp: true })];
    expect(detached.value.itemSync()).toBe(full.value.itemSync());
    const name = 's_embedder.mlp.0.weight';
    expect(relativeError(detached.found.get(name)!.dataSync(), full.found.get(name)!.dataSync())).toBeGreaterThan(1e-3);
  });

  it('takes an average of the parameters for a teacher', () => {
    const net = makeNet('float64');
    const ema = new Ema(net.namedParameters(), 0.99);
    const [a, b] = [tvmLoss(net, ema.tensors, makeBatch('float64')), tvmLoss(net, net, makeBatch('float64'))];
    expect(a.loss.itemSync()).toBe(b.loss.itemSync());
  });

  it('is deterministic given a generator, and draws what the batch leaves out', () => {
    const net = makeNet('float32');
    const { x, labels } = makeBatch('float32');
    const draw = (seed: number) =>
      tvmLoss(net, net, { x, labels }, { generator: new Generator(seed), guidance: { cfg: 2 } }).loss.itemSync();
    expect(draw(3)).toBe(draw(3));
    expect(draw(3)).not.toBe(draw(4));
  });

  it.each([{ cfg: 2 }, { cfg: 1 }, 'beta'] as const)(
    'gives the same bits for a batch drawn beforehand, guidance %j',
    (guidance) => {
      const net = makeNet('float32');
      for (const labels of [makeBatch('float32').labels, null]) {
        const { x } = makeBatch('float32');
        const draws = () => ({ generator: new Generator(8), guidance, labelDropout: 0.5, times: { startShare: 0.5 } });
        const batch = drawTvmBatch({ x, labels }, draws());
        expect(batch.guided).toBe(labels !== null && guidance !== 'beta' ? guidance.cfg !== 1 : labels !== null);
        const [drawn, given] = [tvmLoss(net, net, { x, labels }, draws()), tvmLoss(net, net, batch)];
        expect(given.terminal.dataSync()).toEqual(drawn.terminal.dataSync());
        expect(given.flowMatching.dataSync()).toEqual(drawn.flowMatching.dataSync());
      }
    },
  );

  it('names the row that is not finite, and leaves the parameters as they were', () => {
    const net = makeNet('float32');
    const batch = makeBatch('float32');
    const values = Float32Array.from(batch.x.dataSync());
    values[16] = Number.NaN;
    const before = [...net.parameters()[0]!.dataSync()];
    const optimizer = new AdamW(net.namedParameters(), { lr: 0.1 });
    const [value, g] = valueAndGrad(
      (params: Map<string, Tensor>) =>
        functionalCall(net, params, () => tvmLoss(net, net, { ...batch, x: tensor(values, { shape: [4, 1, 4, 4] }) }))
          .loss,
    )(net.namedParameters());
    optimizer.update(g as Map<string, Tensor>);
    expect(() => value.itemSync()).toThrow(NumericalError);
    expect(() => value.itemSync()).toThrow(/is -?nan in row 1/);
    expect([...net.parameters()[0]!.dataSync()]).toEqual(before);
  });
});

describe('flowMatchingLoss', () => {
  it('gives the same bits for a batch drawn beforehand', () => {
    const net = makeNet('float32');
    const { x, labels } = makeBatch('float32');
    const draws = () => ({ generator: new Generator(8), labelDropout: 0.5 });
    const [drawn, given] = [
      flowMatchingLoss(net, { x, labels }, draws()),
      flowMatchingLoss(net, drawFlowMatchingBatch({ x, labels }, draws())),
    ];
    expect(given.flowMatching.dataSync()).toEqual(drawn.flowMatching.dataSync());
  });

  it('regresses the velocity', () => {
    const net = makeNet('float64');
    const { x, noise, labels, t } = makeBatch('float64');
    const at = t.reshape([4, 1, 1, 1]);
    const F = net.forward(x.mul(at.mul(-1).add(1)).add(noise.mul(at)), t, t, { labels });
    const expected = F.sub(noise.sub(x)).square().mean().itemSync();
    expect(flowMatchingLoss(net, { x, noise, labels, t }).loss.itemSync()).toBeCloseTo(expected, 12);
  });
});

describe('tvmTimes', () => {
  it('keeps 0 < s < t ≤ 1 and its laws', () => {
    const { t, s, sPrime } = tvmTimes(20_000, { generator: new Generator(1) });
    expect(t.every((v, i) => v <= 1 && v > s[i]! && s[i]! > 0)).toBe(true);
    const logits = sPrime.map((p) => Math.log(p / (1 - p)));
    expect(logits.reduce((a, b) => a + b, 0) / logits.length).toBeCloseTo(-0.4, 1);
    const gaps = t.map((v, i) => Math.log((v - s[i]!) / (1 - v + s[i]!)));
    expect(gaps.reduce((a, b) => a + b, 0) / gaps.length).toBeCloseTo(-0.8, 1);
  });

  it('starts the wanted share at t = 1', () => {
    expect(tvmTimes(10, { startShare: 0.5 }).t.slice(0, 5)).toEqual([1, 1, 1, 1, 1]);
    expect(() => tvmTimes(10, { startShare: 2 })).toThrow(/startShare must be in \[0, 1\], got 2/);
    expect(() => tvmTimes(2, { gap: { mean: Number.NaN, std: 1 } })).toThrow(/finite mean/);
  });

  it('rests on a normal distribution that inverts to fifteen digits', () => {
    expect(normalCdf(1)).toBeCloseTo(0.8413447460685429, 15);
    expect(normalCdf(-5) / 2.866515718791939e-7).toBeCloseTo(1, 11);
    for (const p of [1e-12, 1e-4, 0.02, 0.3, 0.5, 0.9, 0.9999])
      expect(normalCdf(normalQuantile(p)) / p).toBeCloseTo(1, 9);
  });
});

describe('samplers', () => {
  it('jump along the map, one evaluation a step', () => {
    const net = makeNet('float64');
    const { noise, labels, beta } = makeBatch('float64');
    let calls = 0;
    const forward = net.forward.bind(net);
    net.forward = (...args) => {
      calls += 1;
      return forward(...args);
    };
    const one = sampleFlowMap(net, noise, { labels, beta });
    const expected = noise.sub(
      forward(noise, ones([4], { dtype: 'float64' }), ones([4], { dtype: 'float64' }).mul(0), { labels, beta }),
    );
    expect(relativeError(one.dataSync(), expected.dataSync())).toBeLessThan(1e-14);
    calls = 0;
    expect(sampleFlowMap(net, noise, { steps: 3, labels, beta }).shape).toEqual(noise.shape);
    expect(calls).toBe(3);
    expect(() => sampleFlowMap(net, noise, { steps: 0 })).toThrow(/steps must be a positive integer, got 0/);
  });

  it('integrate the velocity, twice the evaluations with guidance, and without it the same at cfg 1', () => {
    const net = makeNet('float64');
    const { noise, labels } = makeBatch('float64');
    const plain = sampleEuler(net, noise, { steps: 4, labels });
    const nearly = sampleEuler(net, noise, { steps: 4, labels, cfg: 1 + 1e-12 });
    expect([plain.evaluations, nearly.evaluations]).toEqual([4, 8]);
    expect(relativeError(nearly.samples.dataSync(), plain.samples.dataSync())).toBeLessThan(1e-10);
  });
});
