// RAdam: against double-precision loops over many steps, through both of its phases, and across a saved state.
import { type DType, Generator, RAdam, type RAdamOptions, type Tensor } from '../../lib';
import { relativeError } from '../support/checkOp';
import { expectSameBitsAfterLoading } from '../support/continuation';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

const settings = { lr: 0.05, betas: [0.9, 0.95] as const, eps: 1e-8, weightDecay: 0.1 };

/** RAdam in float64, as PyTorch defines it. */
function reference(start: ArrayLike<number>, grads: ArrayLike<number>[], options: RAdamOptions): number[] {
  const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0, decoupled = false } = options;
  const p = Array.from(start);
  const m = p.map(() => 0);
  const v = p.map(() => 0);
  const rhoInfinity = 2 / (1 - betas[1]) - 1;
  for (const [index, g] of grads.entries()) {
    const step = index + 1;
    const corrections = betas.map((beta) => 1 - beta ** step) as [number, number];
    const rho = rhoInfinity - (2 * step * betas[1] ** step) / corrections[1];
    for (let i = 0; i < p.length; i++) {
      const gradient = g[i]! + (decoupled ? 0 : weightDecay * p[i]!);
      if (decoupled) p[i]! *= 1 - lr * weightDecay;
      m[i] = betas[0] * m[i]! + (1 - betas[0]) * gradient;
      v[i] = betas[1] * v[i]! + (1 - betas[1]) * gradient ** 2;
      let change = m[i]! / corrections[0];
      if (rho > 5) {
        const numerator = (rho - 4) * (rho - 2) * rhoInfinity;
        const rectification = Math.sqrt(numerator / ((rhoInfinity - 4) * (rhoInfinity - 2) * rho));
        change *= (rectification * Math.sqrt(corrections[1])) / (Math.sqrt(v[i]!) + eps);
      }
      p[i]! -= lr * change;
    }
  }
  return p;
}

describeOnDevices('RAdam', (device, label) => {
  // The emulator takes its time.
  const many = label === 'cuda-emulated' ? 20 : 150;
  const { ones, randn, tensor } = on(device);

  function run(dtype: DType, options: RAdamOptions, steps: number) {
    const generator = new Generator(1);
    const params = new Map(
      [1, 17, label === 'cuda-emulated' ? 4099 : 9000].map((n) => [`p${n}`, randn([n], { dtype, generator })]),
    );
    const starts = new Map([...params].map(([name, p]) => [name, p.dataSync()]));
    const seen = new Map<string, ArrayLike<number>[]>();
    const optimizer = new RAdam(params, options);
    for (let step = 0; step < steps; step++) {
      const grads = new Map([...params].map(([name, p]) => [name, randn(p.shape, { dtype, generator })]));
      for (const [name, g] of grads) seen.set(name, [...(seen.get(name) ?? []), g.dataSync()]);
      optimizer.update(grads);
    }
    expect(optimizer.step).toBe(steps);
    const errors = [...params].map(([name, p]) =>
      relativeError(p.dataSync(), reference(starts.get(name)!, seen.get(name)!, options)),
    );
    return Math.max(...errors);
  }

  it.each([
    ['float64', 1e-12],
    ['float32', 2e-5],
    ['bfloat16', 8e-3],
    ['float16', 1e-3],
  ] as [DType, number][])(
    'follows its definition over many steps in %s',
    (dtype, allowed) => {
      expect(run(dtype, settings, many)).toBeLessThan(allowed);
      expect(run(dtype, { ...settings, decoupled: true }, many)).toBeLessThan(allowed);
    },
    60_000,
  );

  it.each([1, 4, 5, 6, 7, 30])('has the default settings, and the right phase, after %i steps', (steps) => {
    expect(run('float64', {}, steps)).toBeLessThan(1e-13);
  });

  it.each([0, 0.5, 0.6])('stays with momentum where betas[1] is %d, too small for a variance', (beta2) => {
    const options: RAdamOptions = { betas: [0.9, beta2], eps: 1 };
    expect(run('float64', options, 40)).toBeLessThan(1e-12);
  });

  it('is momentum alone at first: a step that is linear in the gradient', () => {
    const w = tensor([0, 0], { dtype: 'float64' });
    new RAdam(new Map([['w', w]]), { lr: 1 }).update(new Map([['w', tensor([1e-6, 100], { dtype: 'float64' })]]));
    expect(relativeError(w.dataSync(), [-1e-6, -100])).toBeLessThan(1e-15);
  });

  it.each(['float32', 'bfloat16'] as const)('continues a saved state with the same bits in %s', (dtype) => {
    const make = (params: Map<string, Tensor>) => new RAdam(params, settings);
    expectSameBitsAfterLoading(make, (data) => tensor(data, { dtype }), { before: 4, after: 8 });
  });

  it('scales its gradients by a tensor, before weight decay', () => {
    const start = [2, -1];
    const w = tensor(start, { dtype: 'float64' });
    const options = { lr: 0.1, weightDecay: 0.5 };
    const optimizer = new RAdam(new Map([['w', w]]), options);
    optimizer.update(new Map([['w', tensor([4, 8], { dtype: 'float64' })]]), { gradScale: tensor(0.25) });
    expect(relativeError(w.dataSync(), reference(start, [[1, 2]], options))).toBeLessThan(1e-15);
  });

  it('names what is missing or does not fit, and changes nothing', () => {
    const w = ones([2]);
    const optimizer = new RAdam(new Map([['w', w]]), settings);
    expect(() => optimizer.update(new Map())).toThrow(/RAdam: grads must have an entry .* 'w' is missing/);
    expect(() => optimizer.update(new Map([['w', ones([3])]]))).toThrow(
      /radamStep: grads must have shape \[2\], got \[3\]/,
    );
    expect(() => optimizer.update(new Map([['w', ones([2])]]), { lr: -1 })).toThrow(/radamStep: learningRate/);
    expect(() => new RAdam(new Map([['w', w]]), { eps: Number.NaN })).toThrow(/RAdam: eps must be a finite number/);
    expect(() => new RAdam(new Map([['w', w]]), { betas: [0.9, 1] }).update(new Map([['w', w]]))).toThrow(
      /beta2 must be in/,
    );
    expect(() => optimizer.loadStateDict({ tensors: new Map(), step: 0 })).toThrow(/RAdam: the state lacks 'm.w'/);
    expect([...w.dataSync()]).toEqual([1, 1]);
    expect(optimizer.step).toBe(0);
  });
});
