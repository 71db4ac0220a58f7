// Steps that are recorded and replayed: the same bits as the step itself, what moves on from step to step and what is held,
// and what a recording refuses.
import {
  AdamW,
  ArgumentError,
  AutogradError,
  add,
  type CapturedStep,
  captureGraph,
  checkFinite,
  clipByGlobalNorm,
  copyInto,
  DeviceError,
  DisposedError,
  DTypeError,
  dispose,
  Ema,
  emptyCache,
  full,
  Generator,
  grad,
  jvp,
  keep,
  linear,
  memory,
  mul,
  NumericalError,
  OutOfMemoryError,
  RAdam,
  rand,
  randint,
  randn,
  randperm,
  rmsNorm,
  ShapeError,
  setMatmulPrecision,
  setMemoryLimit,
  silu,
  softmax,
  sub,
  synchronize,
  synchronizeSync,
  type Tensor,
  take,
  tensor,
  valueAndGrad,
} from '../../lib';
import { settledMemory } from '../support/collect';
import { describeOnDevices } from '../support/devices';

/** A small training step over what steps have: draws, elementwise, products, norms, rows, sums, gather, optimiser, averages. */
function makeTrainer(device: string, Optimizer: typeof AdamW | typeof RAdam = AdamW) {
  const values = (n: number, from: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(from + i));
  const params = new Map<string, Tensor>([
    ['w', keep(tensor(values(5, 1), { device }))],
    ['b', keep(tensor(values(15, 2), { shape: [3, 5], device }))],
    ['m', keep(tensor(values(25, 4), { shape: [5, 5], device }))],
    ['half', keep(tensor(values(5, 3), { device, dtype: 'bfloat16' }))],
  ]);
  const optimizer = new Optimizer(params, { lr: 0.05, weightDecay: 0.01 });
  const ema = new Ema(params, 0.9);
  const generator = new Generator(11);
  const step = (x: Tensor, labels: Tensor) => {
    const noise = randn(x.shape, { device, generator });
    const kept = rand([5], { device, generator }).greater(0.2).to({ dtype: 'float32' });
    const shift = tensor([0.5, 0, -0.5, 1, 2], { device });
    const [loss, grads] = valueAndGrad((p: Map<string, Tensor>) => {
      const mixed = (input: Tensor) => linear(rmsNorm(mul(input, p.get('w')!)), p.get('m')!);
      const net = (input: Tensor) => silu(add(mixed(input), take(p.get('b')!, labels, 0)));
      const [y, ty] = jvp(net, [x], [noise]);
      const z = softmax(mul(add(y, mul(ty, 0.5)), kept)).add(mul(p.get('half')!.to({ dtype: 'float32' }), shift));
      return checkFinite(sub(z, noise).square().mean(), 'the loss');
    })(params);
    const { norm, scale } = clipByGlobalNorm(grads.values(), 0.5);
    optimizer.update(grads, { gradScale: scale });
    ema.update();
    return { loss, norm };
  };
  const state = () => [...params.values(), ...optimizer.stateDict().tensors.values(), ...ema.tensors.values()];
  const free = () => {
    dispose([...params.values()]);
    optimizer.dispose();
    ema.dispose();
  };
  return { params, optimizer, ema, generator, step, state, free };
}

const batch = (device: string, i: number, rows = 4) =>
  [
    tensor(
      Float32Array.from({ length: rows * 5 }, (_, k) => Math.cos(i * 31 + k)),
      { shape: [rows, 5], device },
    ),
    tensor(
      Int32Array.from({ length: rows }, (_, k) => (k + i) % 3),
      { device },
    ),
  ] as const;

const bitsOf = (tensors: readonly Tensor[]) =>
  Promise.all(tensors.map(async (x) => Buffer.from(await x.bytes()).toString('hex')));

describeOnDevices('a recorded step', (device) => {
  const options = { device };
  /** Calls until there is a recording. */
  const warm = <A extends readonly Tensor[], R>(step: CapturedStep<A, R>, ...args: A) => {
    dispose(step(...args));
    dispose(step(...args));
    expect(step.captured).toBe(true);
  };

  it.each([
    ['AdamW', AdamW],
    ['RAdam', RAdam],
  ])('computes the bits of the step itself, as rates change and generators move on: %s', async (_, Optimizer) => {
    const plain = makeTrainer(device, Optimizer);
    const recorded = makeTrainer(device, Optimizer);
    const step = captureGraph(recorded.step);
    for (let i = 0; i < 7; i++) {
      for (const trainer of [plain, recorded]) trainer.optimizer.lr = 0.05 / (1 + i);
      if (i === 5) for (const { generator } of [plain, recorded]) generator.manualSeed(77);
      const [args, others] = [batch(device, i), batch(device, i)];
      const expected = plain.step(...args);
      const got = step(...others);
      expect(step.captured).toBe(i > 0);
      expect(await bitsOf([got.loss, got.norm])).toEqual(await bitsOf([expected.loss, expected.norm]));
      expect(recorded.generator.state).toEqual(plain.generator.state);
      expect(recorded.optimizer.step).toBe(plain.optimizer.step);
      dispose([args, others, expected, got]);
    }
    expect(await bitsOf(recorded.state())).toEqual(await bitsOf(plain.state()));
    step.dispose();
    // It goes on as it is: the recording left nothing behind.
    dispose([plain.step(...batch(device, 9)), recorded.step(...batch(device, 9))]);
    expect(await bitsOf(recorded.state())).toEqual(await bitsOf(plain.state()));
    plain.free();
    recorded.free();
  });

  it('draws anew in each replay, all kinds of numbers', async () => {
    const draw = (generator: Generator) => ({
      normal: randn([5], { device, generator }),
      whole: randint(-4, 1000, [3, 2], { device, generator }),
      order: randperm(9, { device, generator }),
      wide: rand([3], { device, generator, dtype: 'float64', low: 2, high: 3 }),
    });
    const [generator, reference] = [new Generator(5), new Generator(5)];
    const step = captureGraph(() => draw(generator), options);
    const seen = new Set<string>();
    for (let i = 0; i < 5; i++) {
      const bits = await bitsOf(Object.values(step()));
      expect(bits).toEqual(await bitsOf(Object.values(draw(reference))));
      seen.add(bits[0]!);
    }
    expect(seen.size).toBe(5);
    step.dispose();
  });

  it('gives results that later replays leave alone, in any nesting, and what was there before as it is', async () => {
    const w = tensor([1, 2], options);
    const step = captureGraph((x: Tensor) => {
      const y = mul(x, w);
      return { list: [y, new Map([['again', y]])] as const, name: 'y', view: y.reshape([2, 1]), w, x };
    });
    const inputs = [1, 2, 3, 4].map((i) => tensor([i, 10 * i], options));
    const results = inputs.map((x) => step(x));
    for (const [i, { list, name, view, w: same, x }] of results.entries()) {
      expect(Array.from(await list[0].data())).toEqual([i + 1, 20 * (i + 1)]);
      expect(list[1].get('again')).toBe(list[0]);
      expect(name).toBe('y');
      expect(view.shape).toEqual([2, 1]);
      expect(Array.from(await view.data())).toEqual([i + 1, 20 * (i + 1)]);
      expect(same).toBe(w);
      expect(x).toBe(inputs[i]);
    }
    step.dispose();
    expect(Array.from(await results[3]!.view.data())).toEqual([4, 80]);
  });

  it('keeps what it reads, and sees it change in place', async () => {
    const w = tensor([1, 2], options);
    const step = captureGraph((x: Tensor) => mul(x, w));
    const x = tensor([3, 4], options);
    warm(step, x);
    copyInto(w, tensor([10, 20], options));
    expect(Array.from(await step(x).data())).toEqual([30, 80]);
    w.dispose();
    for (let i = 0; i < 3; i++) full([2], -1, options); // would be given its memory
    expect(Array.from(await step(x).data())).toEqual([30, 80]);
    step.dispose();
  });

  it('uploads again what it makes from values, and shows what it keeps aside', async () => {
    let aside: Tensor | null = null;
    const step = captureGraph((x: Tensor) => {
      const shifted = add(x, tensor([100, 200], options));
      aside?.dispose();
      aside = keep(mul(shifted, 2));
      return shifted;
    });
    for (const i of [1, 2, 3, 4]) {
      expect(Array.from(await step(full([2], i, options)).data())).toEqual([100 + i, 200 + i]);
      expect(Array.from(await aside!.data())).toEqual([200 + 2 * i, 400 + 2 * i]);
    }
    step.dispose();
    expect(Array.from(await aside!.data())).toEqual([208, 408]);
    aside!.dispose();
  });

  it('holds the memory of one step, flat over replays, and gives it back', async () => {
    const big = 2 ** 14;
    const settled = async () => {
      const { tensors, bytes } = await settledMemory(device);
      return { tensors, bytes };
    };
    const x = full([big], 1, options);
    const before = await settled();
    const step = captureGraph((input: Tensor) => {
      let y = input;
      for (let i = 0; i < 12; i++) {
        const next = add(y, 1);
        if (y !== input) y.dispose();
        y = next;
      }
      return y.sum();
    });
    warm(step, x);
    const held = await settled();
    expect(held.tensors).toBe(before.tensors);
    expect(held.bytes).toBeGreaterThan(before.bytes);
    // The input, two of the twelve sums, and what adding up needs; without a cache nothing is reused.
    if (process.env.FLOWMAP_CUDA_CACHE !== 'off') expect(held.bytes - before.bytes).toBeLessThan(5 * 4 * big);
    for (let i = 0; i < 10; i++) {
      const sum = step(x);
      expect(await sum.item()).toBe(big * 13);
      sum.dispose();
    }
    expect(await settled()).toEqual(held);
    step.dispose();
    expect(await settled()).toEqual(before);
    emptyCache(device);
    await synchronize(device);
    expect(memory(device).cachedBytes).toBe(0);
    x.dispose();
  });

  it('gives its memory back where it was forgotten', async () => {
    const x = tensor([1, 2], options);
    const { bytes } = await settledMemory(device);
    (() =>
      warm(
        captureGraph((input: Tensor) => mul(input, 2)),
        x,
      ))();
    expect((await settledMemory(device)).bytes).toBe(bytes);
    x.dispose();
  });

  it('refuses what is not like the first call, naming argument, expected and got', () => {
    const step = captureGraph((x: Tensor, y: Tensor) => add(x, y));
    const [x, y] = [full([2, 3], 1, options), full([3], 1, options)];
    for (let round = 0; round < 2; round++) {
      dispose(step(x, y));
      expect(() => step(x, full([2, 3], 1, options))).toThrow(
        'captureGraph: argument 2 must be float32[3], as in the first call, got float32[2, 3]',
      );
      expect(() => step(x, full([4], 1, options))).toThrow(ShapeError);
      expect(() => step(full([2, 3], 1, { device, dtype: 'int32' }), y)).toThrow(DTypeError);
      expect(() => (step as unknown as (x: Tensor) => Tensor)(x)).toThrow(/takes 2 tensors, .* got 1/);
      expect(() => step(x, 3 as unknown as Tensor)).toThrow(ArgumentError);
    }
    expect(step.captured).toBe(true);
    expect(Array.from(step(x, y).dataSync())).toEqual([2, 2, 2, 2, 2, 2]);
    const gone = full([3], 1, options);
    gone.dispose();
    expect(() => step(x, gone)).toThrow(DisposedError);
    expect(() => grad((v: Tensor) => step(x, v).sum())(y)).toThrow(AutogradError);
    step.dispose();
    step.dispose();
    expect(step.captured).toBe(false);
    expect(() => step(x, y)).toThrow('captureGraph: the step has been disposed');
    expect(() => captureGraph(() => x)()).toThrow(/needs the option device/);
    expect(() => captureGraph((v: Tensor) => v, { device: 'abacus' })).toThrow(DeviceError);
  });

  type Refused = [title: string, act: (input: Tensor) => unknown, message: RegExp];
  const betweenDevices: Refused[] = [
    ['a copy to the CPU', (input) => input.to({ device: 'cpu' }), /to: a step is being recorded/],
    ['a copy from the CPU', () => tensor([1]).to({ device }), /to: a step is being recorded/],
    ['work on the CPU', () => add(tensor([1]), 1), /add: a step is being recorded on cuda:0, and a replay would not/],
  ];
  const x = () => tensor([1, 2], options);
  it.each<Refused>([
    ['data', (input) => input.data().catch(() => {}), /data: a step is being recorded on .*: nothing is computed/],
    ['dataSync', (input) => add(input, 1).dataSync(), /dataSync: a step is being recorded/],
    ['itemSync', (input) => input.sum().itemSync(), /dataSync: a step is being recorded/],
    [
      'itemSync of 16 bits',
      (input) => input.sum().to({ dtype: 'bfloat16' }).itemSync(),
      /dataSync: a step is being rec/,
    ],
    ['synchronizeSync', () => synchronizeSync(device), /synchronizeSync: a step is being recorded/],
    ['emptyCache', () => emptyCache(device), /emptyCache: a step is being recorded/],
    ['numbers drawn on the host', () => new Generator(1).uniform(2), /Generator.uniform: a step is being recorded/],
    ['another precision', () => setMatmulPrecision('highest', device), /setMatmulPrecision: a step is being recorded/],
    ['seeding', () => new Generator(1).manualSeed(2), /Generator: a step is being recorded/],
    ['a change of its argument', (input) => copyInto(input, x()), /copyInto: .* must not change argument 1 in place/],
    ['an asynchronous step', async (input) => input, /must be synchronous/],
    ['a step in a step', (input) => captureGraph((y: Tensor) => y)(input), /a step cannot be called inside another/],
    ...(device === 'cpu' ? [] : betweenDevices),
  ])('refuses %s while recording, and the device goes on', async (_, act, message) => {
    const input = x();
    let first = true;
    const step = captureGraph((y: Tensor) => {
      const z = mul(y, 3);
      if (!first) act(y);
      first = false;
      return z;
    });
    const asynchronous = captureGraph((y: Tensor) => act(y));
    if (message.source.includes('synchronous')) {
      expect(() => asynchronous(input)).toThrow(message);
    } else {
      dispose(step(input));
      const { bytes } = await settledMemory(device);
      expect(() => step(input)).toThrow(message);
      expect(step.captured).toBe(false);
      expect((await settledMemory(device)).bytes).toBe(bytes);
    }
    expect(Array.from(await add(input, 1).data())).toEqual([2, 3]);
    step.dispose();
  });

  (device === 'cpu' ? it.skip : it)('refuses arguments on another device, and work on it', () => {
    const step = captureGraph((y: Tensor) => add(y, 1));
    warm(step, x());
    expect(() => step(tensor([1, 2]))).toThrow(/argument 1 must be on cuda:0, got a tensor on cpu/);
    step.dispose();
    let first = true;
    const onCpu = captureGraph((y: Tensor) => {
      if (!first) add(x(), 1);
      first = false;
      return add(y, 1);
    });
    const y = tensor([1]);
    onCpu(y);
    expect(() => onCpu(y)).toThrow(/: a step is being recorded on cpu, and a replay would not repeat this on cuda:0/);
    expect(add(y, 1).itemSync()).toBe(2);
    onCpu.dispose();
  });

  it('refuses a rate given as an option, which replays would repeat', () => {
    const { step, optimizer, free } = makeTrainer(device);
    const w = keep(tensor([1], options));
    const other = new AdamW(new Map([['w', w]]));
    const captured = captureGraph((g: Tensor) => other.update(new Map([['w', g]]), { lr: 0.1 }));
    captured(tensor([1], options));
    expect(() => captured(tensor([1], options))).toThrow(/AdamW: .* set the property lr before the step/);
    expect(other.step).toBe(1);
    const wrong = captureGraph(step);
    warm(wrong, ...batch(device, 0));
    const count = optimizer.step;
    optimizer.lr = -1;
    expect(() => wrong(...batch(device, 0))).toThrow(/learningRate must be a finite number of at least 0, got -1/);
    expect(optimizer.step).toBe(count);
    wrong.dispose();
    captured.dispose();
    other.dispose();
    free();
  });

  it('is undone where the step throws while it is recorded, as if it had not been called', async () => {
    const plain = makeTrainer(device);
    const failing = makeTrainer(device);
    let wrong = false;
    let leaked: Tensor | null = null;
    const step = captureGraph((input: Tensor, labels: Tensor) => {
      const result = failing.step(input, labels);
      if (wrong) {
        leaked = keep(mul(result.loss, 2));
        throw new RangeError('changed my mind');
      }
      return result;
    });
    dispose([plain.step(...batch(device, 0)), step(...batch(device, 0))]);
    wrong = true;
    const { bytes } = await settledMemory(device);
    expect(() => step(...batch(device, 1))).toThrow(RangeError);
    expect(step.captured).toBe(false);
    await expect(leaked!.data()).rejects.toThrow(/the step that was to compute this threw/);
    leaked!.dispose();
    expect((await settledMemory(device)).bytes).toBeLessThanOrEqual(bytes);
    expect(failing.generator.state).toEqual(plain.generator.state);
    expect(failing.optimizer.step).toBe(1);
    expect(await bitsOf(failing.state())).toEqual(await bitsOf(plain.state()));
    wrong = false;
    for (const i of [2, 3]) dispose([plain.step(...batch(device, i)), step(...batch(device, i))]);
    expect(step.captured).toBe(true);
    expect(await bitsOf(failing.state())).toEqual(await bitsOf(plain.state()));
    step.dispose();
    plain.free();
    failing.free();
  });

  it('tells a fault in a replay at the next read, and goes on', async () => {
    const trainer = makeTrainer(device);
    const step = captureGraph(trainer.step);
    warm(step, ...batch(device, 0));
    const [x0] = batch(device, 1);
    const before = await bitsOf([...trainer.params.values()]);
    const bad = step(x0, tensor([0, 1, 9, 2], { device, dtype: 'int32' }));
    await expect(bad.loss.data()).rejects.toThrow('take: indices must be in [0, 3), got 9 at position 2');
    const nan = step(full([4, 5], Number.NaN, options), batch(device, 1)[1]);
    expect(() => nan.loss.dataSync()).toThrow(NumericalError);
    expect(await bitsOf([...trainer.params.values()])).toEqual(before);
    const good = step(...batch(device, 2));
    expect(Number.isFinite(await good.loss.item())).toBe(true);
    expect(await bitsOf([...trainer.params.values()])).not.toEqual(before);
    step.dispose();
    trainer.free();
  });

  it('passes on the failure of an argument without running', async () => {
    const limit = memory(device).limitBytes;
    const w = tensor([1], options);
    const optimizer = new AdamW(new Map([['w', w]]));
    const step = captureGraph((g: Tensor) => {
      optimizer.update(new Map([['w', g.sum().reshape([1])]]));
      return mul(g, 2);
    });
    warm(step, full([2 ** 10], 1, options));
    const before = await bitsOf([w]);
    await synchronize(device);
    setMemoryLimit(memory(device).bytes + 2 ** 20, device);
    try {
      const failed = full([2 ** 20], 1, options)
        .reshape([2 ** 10, 2 ** 10])
        .sum(0);
      await expect(step(failed).data()).rejects.toThrow(OutOfMemoryError);
      expect(await bitsOf([w])).toEqual(before);
    } finally {
      setMemoryLimit(limit, device);
    }
    step.dispose();
    optimizer.dispose();
  });

  it('gives up where memory runs out while it is recorded, and can be recorded later', async () => {
    const { limitBytes } = memory(device);
    const input = full([2 ** 18], 1, options);
    let aside: Tensor | null = null;
    const step = captureGraph((y: Tensor) => {
      const parts = [add(y, 1), add(y, 2), add(y, 3)];
      aside?.dispose();
      aside = keep(add(parts[2]!, 1));
      return add(add(parts[0]!, parts[1]!), parts[2]!).sum();
    });
    step(input).dispose();
    emptyCache(device);
    await synchronize(device);
    const { bytes } = memory(device);
    setMemoryLimit(bytes + 3 * 2 ** 20, device);
    try {
      expect(() => step(input)).toThrow(OutOfMemoryError);
    } finally {
      setMemoryLimit(limitBytes, device);
    }
    expect(step.captured).toBe(false);
    await expect(aside!.data()).rejects.toThrow(OutOfMemoryError);
    expect(memory(device).bytes).toBeLessThanOrEqual(bytes);
    expect(await step(input).item()).toBe(9 * 2 ** 18);
    expect(await aside!.sum().item()).toBe(5 * 2 ** 18);
    expect(step.captured).toBe(true);
    aside!.dispose();
    step.dispose();
  });

  it('goes with several recordings at once, one in the other work', async () => {
    const w = tensor([1], options);
    const optimizer = new AdamW(new Map([['w', w]]), { lr: 0.5 });
    const scores = captureGraph((y: Tensor) => mul(y, w).sum());
    const train = captureGraph((g: Tensor) => optimizer.update(new Map([['w', g]])));
    const g = tensor([1], options);
    for (let i = 0; i < 4; i++) {
      train(g);
      expect(await scores(tensor([2, 4], options)).item()).toBeCloseTo(6 * (1 - 0.5 * (i + 1)), 4);
    }
    train.dispose();
    expect(await scores(tensor([2, 4], options)).item()).toBeCloseTo(-6, 4);
    scores.dispose();
    optimizer.dispose();
  });
});
