// Optimiser, averages, clipping, schedules: against double-precision loops over many steps.
import {
  AdamW,
  clipByGlobalNorm,
  copyInto,
  cosineSchedule,
  type DType,
  Ema,
  Generator,
  globalNorm,
  type Tensor,
} from '../../lib';
import { relativeError } from '../support/checkOp';
import { expectSameBitsAfterLoading } from '../support/continuation';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

const settings = { lr: 0.05, betas: [0.9, 0.95] as const, eps: 1e-8, weightDecay: 0.1 };

/** AdamW in float64, as the paper has it. */
function reference(start: ArrayLike<number>, grads: ArrayLike<number>[]): number[] {
  const p = Array.from(start);
  const m = p.map(() => 0);
  const v = p.map(() => 0);
  const { lr, betas, eps, weightDecay } = settings;
  for (const [step, g] of grads.entries()) {
    for (let i = 0; i < p.length; i++) {
      m[i] = betas[0] * m[i]! + (1 - betas[0]) * g[i]!;
      v[i] = betas[1] * v[i]! + (1 - betas[1]) * g[i]! ** 2;
      const mHat = m[i]! / (1 - betas[0] ** (step + 1));
      const vHat = v[i]! / (1 - betas[1] ** (step + 1));
      p[i] = p[i]! * (1 - lr * weightDecay) - (lr * mHat) / (Math.sqrt(vHat) + eps);
    }
  }
  return p;
}

describeOnDevices('the optimiser', (device, label) => {
  // The emulator takes its time.
  const steps = label === 'cuda-emulated' ? 20 : 200;
  const { ones, randn, tensor, zeros } = on(device);

  describe('AdamW', () => {
    it.each([
      ['float64', 1e-12],
      ['float32', 2e-5],
      ['bfloat16', 8e-3],
      ['float16', 1e-3],
    ] as [DType, number][])(
      'follows its definition over many steps in %s',
      (dtype, allowed) => {
        const generator = new Generator(1);
        const sizes = [1, 17, 9000];
        const params = new Map(sizes.map((n) => [`p${n}`, randn([n], { dtype, generator })]));
        const starts = new Map([...params].map(([name, p]) => [name, p.dataSync()]));
        const seen = new Map<string, ArrayLike<number>[]>();
        const optimizer = new AdamW(params, settings);
        for (let step = 0; step < steps; step++) {
          const grads = new Map([...params].map(([name, p]) => [name, randn(p.shape, { dtype, generator })]));
          for (const [name, g] of grads) seen.set(name, [...(seen.get(name) ?? []), g.dataSync()]);
          optimizer.update(grads);
        }
        expect(optimizer.step).toBe(steps);
        for (const [name, p] of params)
          expect(relativeError(p.dataSync(), reference(starts.get(name)!, seen.get(name)!))).toBeLessThan(allowed);
      },
      60_000,
    );

    it('continues a saved state with the same bits', () => {
      expectSameBitsAfterLoading(
        (params) => new AdamW(params, settings),
        (data) => tensor(data),
        { before: 5, after: 4 },
      );
    });

    it('names what is missing or does not fit, and changes nothing', () => {
      const params = new Map([
        ['w', ones([2])],
        ['b', ones([1])],
      ]);
      const optimizer = new AdamW(params, settings);
      expect(() => optimizer.update(new Map([['w', ones([2])]]))).toThrow(/'b' is missing/);
      expect(() =>
        optimizer.update(
          new Map([
            ['w', ones([3])],
            ['b', ones([1])],
          ]),
        ),
      ).toThrow(/grads must have shape \[2\], got \[3\]/);
      expect(() =>
        optimizer.update(
          new Map([
            ['w', ones([2])],
            ['b', ones([1])],
          ]),
          { lr: Number.NaN },
        ),
      ).toThrow(/learningRate/);
      expect(() => new AdamW(params, { lr: -1 })).toThrow(/lr must be a finite number of at least 0/);
      expect(() => optimizer.loadStateDict({ tensors: new Map(), step: 0 })).toThrow(/lacks 'm.w'/);
      expect([...params.get('w')!.dataSync()]).toEqual([1, 1]);
      expect(optimizer.step).toBe(0);
    });
  });

  describe('Ema', () => {
    it('averages, and starts again where it is reset', () => {
      const w = tensor([0, 8], { dtype: 'float64' });
      const ema = new Ema(new Map([['w', w]]), 0.75);
      copyInto(w, tensor([4, 0]));
      ema.update();
      expect([...ema.tensors.get('w')!.dataSync()]).toEqual([1, 6]);
      ema.reset();
      expect([...ema.tensors.get('w')!.dataSync()]).toEqual([4, 0]);
      expect(() => new Ema(new Map(), 1.5)).toThrow(/decay must be in \[0, 1\], got 1.5/);
    });

    it('keeps float32 averages of 16-bit parameters', () => {
      const w = ones([3], { dtype: 'bfloat16' });
      const ema = new Ema(new Map([['w', w]]), 0.999);
      for (let i = 0; i < 10; i++) ema.update();
      expect(ema.tensors.get('w')!.dtype).toBe('float32');
      expect(ema.tensors.get('w')!.dataSync()[0]).toBeCloseTo(1, 6);
    });
  });

  describe('norms', () => {
    it('are over all elements of all tensors', () => {
      expect(globalNorm([tensor([3]), tensor([[0, 4]])]).itemSync()).toBe(5);
      const many = randn([100_003], { generator: new Generator(2) });
      expect(globalNorm([many]).itemSync()).toBeCloseTo(Math.hypot(...many.dataSync()), 3);
    });

    it('clip to a length, leave the short alone, and show a NaN', () => {
      const scale = (x: Tensor, limit: number) => clipByGlobalNorm([x], limit).scale.itemSync();
      expect(scale(tensor([3, 4]), 1)).toBeCloseTo(0.2, 5);
      expect(scale(tensor([0.3]), 1)).toBe(1);
      expect(scale(tensor([Number.NaN]), 1)).toBeNaN();
      const w = ones([2]);
      const optimizer = new AdamW(new Map([['w', w]]), { lr: 1, betas: [0, 0], eps: 1e-30 });
      optimizer.update(new Map([['w', tensor([3, 4])]]), { gradScale: zeros([]) });
      expect([...w.dataSync()]).toEqual([1, 1]);
    });
  });
});

describe('cosineSchedule', () => {
  it('rises, falls along half a cosine, and stays', () => {
    const rate = cosineSchedule({ lr: 2, steps: 110, warmup: 10, final: 0.1 });
    expect([0, 4, 9].map(rate)).toEqual([0.2, 1, 2]);
    expect(rate(10)).toBe(2);
    expect(rate(60)).toBeCloseTo(1.1, 12);
    expect(rate(110)).toBeCloseTo(0.2, 12);
    expect(rate(500)).toBeCloseTo(0.2, 12);
  });
});
