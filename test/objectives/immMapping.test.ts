// The maps of Inductive Moment Matching: identities as properties, r against exact arithmetic, limits, gradients, guards.
import fc from 'fast-check';
import {
  ArgumentError,
  DTypeError,
  gradcheck,
  type ImmMappingOptions,
  immMapping,
  immPresets,
  NumericalError,
  ShapeError,
  type Tensor,
  tensor,
} from '../../lib';
import { relativeError, sample } from '../support/checkOp';
import { exact, over, quarterArctangent, quarterTangent, toNumber, unit } from '../support/precise';

const kinds: ImmMappingOptions[] = [
  { schedule: 'fm', f: 'identity' },
  { schedule: 'fm', f: 'simple_edm' },
  { schedule: 'fm', f: 'euler_fm' },
  { schedule: 'vp_cosine', f: 'identity' },
  { schedule: 'vp_cosine', f: 'simple_edm' },
];
const titled = kinds.map((options) => [`${options.f} on ${options.schedule}`, options] as const);
const schedules = ['fm', 'vp_cosine'] as const;

// Subnormal times are left out: they have too few bits for any identity.
const time = fc.double({ min: 0, max: 1, noNaN: true }).map((t) => (t < 1e-300 ? 0 : t));
const ordered = fc.tuple(time, time).map(([u, v]) => [Math.min(u, v), Math.max(u, v)] as const);
const value = fc.double({ min: -3, max: 3, noNaN: true });

/** What the network must return for x_t to be mapped along its own path. */
function trueOutput(options: ImmMappingOptions, x: number, n: number, t: number): number {
  const { sigmaData = 0.5 } = options;
  if (options.f === 'identity') return x;
  if (options.f === 'euler_fm') return (n - x) / sigmaData;
  const { alpha, sigma } = immMapping(options);
  return (alpha(t) * n - sigma(t) * x) / (sigmaData * Math.hypot(alpha(t), sigma(t)));
}

describe.each(titled)('immMapping with %s', (_, options) => {
  const mapping = immMapping(options);
  const at = (x: number, n: number, t: number) => mapping.alpha(t) * x + mapping.sigma(t) * n;
  const jump = (x: number, F: number, s: number, t: number) => {
    const { skip, out } = mapping.coefficients(s, t);
    return skip * x + out * F;
  };

  it('maps nothing where s = t, exactly', () => {
    const check = (t: number) => expect(mapping.coefficients(t, t)).toEqual({ skip: 1, out: 0 });
    fc.assert(fc.property(time, check));
    for (const t of [0, 1]) check(t);
  });

  it('takes x_t to x_s of the same data and noise for the true output, which is DDIM', () => {
    fc.assert(
      fc.property(ordered, value, value, ([s, t], x, n) => {
        const got = jump(at(x, n, t), trueOutput(options, x, n, t), s, t);
        expect(Math.abs(got - at(x, n, s))).toBeLessThan(1e-13);
      }),
    );
  });

  it('composes: s to r after t to s is t to r', () => {
    fc.assert(
      fc.property(fc.tuple(time, time, time), value, value, (raw, x, n) => {
        const [r, s, t] = [...raw].sort((u, v) => u - v) as [number, number, number];
        const middle = jump(at(x, n, t), trueOutput(options, x, n, t), s, t);
        const composed = jump(middle, trueOutput(options, x, n, s), r, s);
        const direct = jump(at(x, n, t), trueOutput(options, x, n, t), r, t);
        expect(Math.abs(composed - direct)).toBeLessThan(1e-13);
      }),
    );
  });

  it('weights the kernel by the reciprocal of what multiplies F, infinite at s = t', () => {
    fc.assert(
      fc.property(ordered, ([s, t]) => {
        const { out } = mapping.coefficients(s, t);
        expect(mapping.kernelWeight(s, t)).toBe(out === 0 ? Number.POSITIVE_INFINITY : 1 / Math.abs(out));
      }),
    );
    expect(mapping.kernelWeight(0.3, 0.3)).toBe(Number.POSITIVE_INFINITY);
  });

  const times = { t: [1, 0.994, 0.7, 0.4, 0.4, 0, 1e-9], s: [0, 0.5, 0.7, 0.39999, 0, 0, 0] };
  const rows = times.t.length;
  const like = (seed: number, dtype: 'float32' | 'float64' = 'float64') => {
    const { shape, values } = sample([rows, 2, 3], seed);
    return tensor(Float64Array.from(Array.from(values)), { shape, dtype });
  };
  const wide = (values: number[]) => tensor(Float64Array.from(values));

  it('maps tensors as it maps numbers, with times of any kind', () => {
    const [x, F] = [like(1), like(2)];
    const [xs, Fs] = [x.dataSync(), F.dataSync()];
    const expected = Array.from(xs, (v, i) => {
      const row = Math.floor(i / 6);
      return jump(v, Fs[i]!, times.s[row]!, times.t[row]!);
    });
    const { t, s } = times;
    for (const [first, second] of [
      [t, s],
      [Float64Array.from(t), Float64Array.from(s)],
      [wide(t), wide(s)],
      [t, wide(s)],
      [wide(t), s],
    ] as const) {
      const y = mapping.f(x, F, first, second);
      expect(y.shape).toEqual(x.shape);
      expect(relativeError(y.dataSync(), expected)).toBeLessThan(1e-14);
    }
    const narrow = mapping.f(like(1, 'float32'), like(2, 'float32'), t, s);
    expect(narrow.dtype).toBe('float32');
    expect(relativeError(narrow.dataSync(), expected)).toBeLessThan(1e-6);
  });

  it('passes gradients through x and F, and through times that are tensors', () => {
    const { t, s } = times;
    gradcheck((x: Tensor, F: Tensor) => mapping.f(x, F, t, s).square(), [like(1), like(2)]);
    const inner = { t: wide([0.9, 0.5]), s: wide([0.2, 0.4]) };
    const [x, F] = [wide([1, -2]), wide([0.5, 3])];
    gradcheck((at: Tensor, to: Tensor) => mapping.f(x, F, at, to), [inner.t, inner.s]);
  });

  it('reports times of tensors that are out of range or order, or no numbers, with their row', () => {
    const [x, F] = [wide([1, 2]), wide([1, 2])];
    for (const [t, s] of [
      [0.5, 0.6],
      [1.1, 0],
      [0.5, -0.1],
      [Number.NaN, 0],
      [0.5, Number.NaN],
    ] as const) {
      const y = mapping.f(x, F, wide([0.5, t]), wide([0.1, s]));
      expect(() => y.dataSync()).toThrow(NumericalError);
      expect(() => y.dataSync()).toThrow(/0 <= s <= t <= 1.*row 1/);
    }
  });
});

describe.each(schedules)('the %s schedule', (schedule) => {
  const mapping = immMapping({ schedule, f: 'simple_edm', k: 12 });

  it('is exact at its ends', () => {
    expect([mapping.alpha(0), mapping.sigma(0), mapping.eta(0)]).toEqual([1, 0, 0]);
    expect([mapping.alpha(1), mapping.sigma(1), mapping.eta(1)]).toEqual([0, 1, Number.POSITIVE_INFINITY]);
    expect([mapping.etaInverse(0), mapping.etaInverse(Number.POSITIVE_INFINITY)]).toEqual([0, 1]);
    expect([mapping.logSnr(0), mapping.logSnr(1)]).toEqual([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(mapping.logSnrInverse(Number.POSITIVE_INFINITY)).toBe(0);
    expect(mapping.logSnrInverse(Number.NEGATIVE_INFINITY)).toBe(1);
    expect(mapping.logSnrDerivative(0)).toBe(Number.NEGATIVE_INFINITY);
    expect(mapping.logSnrDerivative(1)).toBe(Number.NEGATIVE_INFINITY);
  });

  it('inverts η and λ', () => {
    for (let decade = -300; decade <= 3; decade += 0.37) {
      const eta = 10 ** decade;
      expect(Math.abs(mapping.eta(mapping.etaInverse(eta)) / eta - 1)).toBeLessThan(1e-12);
    }
    for (let decade = 3; decade <= 12; decade += 0.37) {
      // Here the spacing of doubles below 1 is what limits η: its time is still as good as can be.
      const eta = 10 ** decade;
      const t = mapping.etaInverse(eta);
      expect(Math.abs(mapping.etaInverse(mapping.eta(t)) - t)).toBeLessThan(3e-16);
      expect(Math.abs(mapping.eta(t) / eta - 1)).toBeLessThan(1e-15 * eta + 1e-12);
    }
    for (let lambda = -13; lambda <= 600; lambda += 0.71) {
      expect(Math.abs(mapping.logSnr(mapping.logSnrInverse(lambda)) - lambda)).toBeLessThan(
        1e-12 * (1 + Math.abs(lambda)),
      );
    }
  });

  it('has the derivative of λ that differences show', () => {
    for (const t of [1e-3, 0.1, 0.37, 0.5, 0.81, 0.994]) {
      const h = 1e-4 * Math.min(t, 1 - t);
      const d = (k: number) => (mapping.logSnr(t + k * h) - mapping.logSnr(t - k * h)) / (2 * k * h);
      expect(((4 * d(1) - d(2)) / 3 / mapping.logSnrDerivative(t) - 1) * 1e-2).toBeCloseTo(0, 10);
    }
  });

  const reference = (t: number, step: number): number => {
    const eta = schedule === 'fm' ? over(exact(t), unit - exact(t)) : quarterTangent(exact(t));
    const lowered = eta - exact(step);
    if (lowered <= 0n) return t;
    return toNumber(exact(t) - (schedule === 'fm' ? over(lowered, unit + lowered) : quarterArctangent(lowered)));
  };

  it.each([0, 5, 12, 15, 30])('steps from t to r by a constant decrement of η, to the last bits, k = %s', (k) => {
    const { r, gap } = immMapping({ schedule, f: 'simple_edm', k });
    const step = 160 / 2 ** k;
    for (const t of [1e-5, 0.006, 0.0371, 0.1, 0.25, 0.5, 0.6180339887, 0.75, 0.9, 0.97, 0.99, 0.994, 0.9999]) {
      const expected = reference(t, step);
      expect(Math.abs(gap(0, t) / expected - 1)).toBeLessThan(k === 0 ? 1e-11 : 1e-12);
      expect(Math.abs(r(0, t) - (t - expected))).toBeLessThanOrEqual(2 ** -51 * t);
    }
  });

  it('keeps s ≤ r ≤ t, and r rises with t', () => {
    fc.assert(
      fc.property(ordered, ([s, t]) => {
        const r = mapping.r(s, t);
        expect(r >= s && r <= t).toBe(true);
        expect(mapping.gap(s, t)).toBeLessThanOrEqual(t - s);
      }),
    );
    for (let i = 1, last = 0; i <= 20_000; i++) {
      const r = mapping.r(0, i / 20_000);
      expect(r).toBeGreaterThanOrEqual(last);
      last = r;
    }
    expect([mapping.r(0, 0), mapping.r(0.2, 0.2), mapping.r(1, 1), mapping.r(0, 1)]).toEqual([0, 0.2, 1, 1]);
  });

  it('does not let η fall below its floor', () => {
    const floor = mapping.eta(0.2);
    const floored = immMapping({ schedule, f: 'simple_edm', k: 2, etaMin: floor });
    expect(floored.r(0, 0.5)).toBeCloseTo(0.2, 14);
    expect(floored.gap(0, 0.5)).toBeCloseTo(0.3, 14);
    expect(floored.r(0.3, 0.5)).toBe(0.3);
    expect([floored.r(0, 0.1), floored.gap(0, 0.1)]).toEqual([0.1, 0]);
  });

  it('weighs as the paper writes it, finite throughout, and tends to 0 with t', () => {
    for (const [a, b] of [
      [0, 0],
      [1, 4],
      [1, 5],
      [2, 4],
      [1.5, -3],
    ] as const) {
      const { weight, logSnr, logSnrDerivative, alpha, sigma } = immMapping({ schedule, f: 'simple_edm', a, b });
      for (const t of [1e-6, 0.006, 0.2, 0.5, 0.8, 0.994]) {
        const sigmoid = 1 / (1 + Math.exp(logSnr(t) - b));
        const expected = (0.5 * sigmoid * -logSnrDerivative(t) * alpha(t) ** a) / (alpha(t) ** 2 + sigma(t) ** 2);
        expect(Math.abs(weight(0, t) / expected - 1)).toBeLessThan(1e-11);
      }
      expect(weight(0, 0)).toBe(0);
      for (const t of [Number.MIN_VALUE, 1e-300, 1e-12]) expect(weight(0, t)).toBeLessThan(1e-9);
      const atNoise = a === 0 ? Number.POSITIVE_INFINITY : a > 1 ? 0 : schedule === 'fm' ? 1 : Math.PI / 2;
      if (Number.isFinite(atNoise)) expect(weight(0, 1)).toBeCloseTo(atNoise, 14);
      else expect(weight(0, 1)).toBe(atNoise);
    }
  });

  it('scales inputs to unit variance', () => {
    const { inputScale, alpha, sigma } = immMapping({ schedule, f: 'simple_edm', sigmaData: 0.3 });
    for (const t of [0, 0.3, 1]) {
      expect((inputScale(t) * 0.3) ** 2 * (alpha(t) ** 2 + sigma(t) ** 2)).toBeCloseTo(1, 14);
    }
  });
});

describe('immMapping', () => {
  it('has the settings of each data set', () => {
    expect(immMapping(immPresets.cifar10).options).toMatchObject({ f: 'simple_edm', k: 15, b: 5, eps: 0.006 });
    expect(immMapping(immPresets.imagenet).options).toMatchObject({ f: 'euler_fm', a: 2, etaMax: 160, eps: 0 });
    expect(immMapping(immPresets.digits).options).toEqual({ ...immMapping().options, sigmaData: 1 });
    expect(Object.isFrozen(immMapping())).toBe(true);
  });

  it.each([
    [{ schedule: 'linear' }, /^immMapping: schedule must be one of 'fm', 'vp_cosine', got 'linear'/],
    [{ f: 'toString' }, /^immMapping: f must be one of 'identity', 'simple_edm', 'euler_fm', got 'toString'/],
    [{ schedule: 'vp_cosine' }, /schedule must be 'fm' where f is 'euler_fm', got 'vp_cosine'/],
    [{ sigma_data: 1 }, /options must be among .*sigmaData.*, got 'sigma_data'/],
    [{ a: -1 }, /a must be at least 0, got -1/],
    [{ b: Number.NaN }, /b must be a finite number, got NaN/],
    [{ b: 701 }, /b must be in \[-700, 700\], got 701/],
    [{ k: -1 }, /k must be in \[0, 1000\], got -1/],
    [{ etaMin: -1 }, /etaMin must be at least 0, got -1/],
    [{ etaMin: 5, etaMax: 5 }, /etaMax must be above etaMin 5, got 5/],
    [{ sigmaData: 0 }, /sigmaData must be above 0, got 0/],
    [{ T: 1.01 }, /T must be in \(0, 1\], got 1.01/],
    [{ eps: 0.994 }, /eps must be in \[0, T\).*0\.994.* got 0.994/],
    [{ k: '12' }, /k must be a finite number, got '12'/],
  ])('refuses %j', (options, message) => {
    const make = () => immMapping(options as ImmMappingOptions);
    expect(make).toThrow(ArgumentError);
    expect(make).toThrow(message);
  });

  it('refuses times that are out of range or order, or no numbers', () => {
    const mapping = immMapping();
    expect(() => mapping.alpha(1.5)).toThrow(/^immMapping.alpha: t must be in \[0, 1\], got 1.5/);
    expect(() => mapping.weight(0, Number.NaN)).toThrow(/t must be in \[0, 1\], got NaN/);
    expect(() => mapping.r(0.6, 0.5)).toThrow(/^immMapping.r: s must be at most t 0.5, got 0.6/);
    expect(() => mapping.coefficients(-0.1, 0.5)).toThrow(/s must be in \[0, 1\], got -0.1/);
    expect(() => mapping.etaInverse(Number.NaN)).toThrow(/eta must be at least 0, got NaN/);
    expect(() => mapping.logSnrInverse(Number.NaN)).toThrow(/lambda must be a number, got NaN/);
  });

  it('refuses tensors that do not belong together', () => {
    const { f } = immMapping();
    const [x, F] = [tensor([[1, 2]]), tensor([[3, 4]])];
    expect(() => f(x, tensor([1, 2]), [1], [0])).toThrow(/F must have the shape \[1, 2\] of x, got \[2\]/);
    expect(() => f(x, F.to({ dtype: 'float64' }), [1], [0])).toThrow(DTypeError);
    expect(() => f(x, F, [1, 1], [0])).toThrow(/t must have shape \[1\], got \[2\]/);
    expect(() => f(x, F, [1], [])).toThrow(ShapeError);
    expect(() => f(x, F, [0.1], [0.2])).toThrow(/s must be at most t 0.1, got 0.2/);
    expect(() => f(x, F, tensor([1, 1]), tensor([0, 0]))).toThrow(/t must have shape \[1\], got \[2\]/);
    expect(() => f(x, F, tensor([1], { dtype: 'int32' }), [0])).toThrow(/t must be floating, got int32/);
    expect(() => f(tensor(1), tensor(1), [1], [0])).toThrow(/x must have shape \[B, ...\]/);
  });
});
