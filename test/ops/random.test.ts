// Random numbers: the published known answers of Philox, the laws, independence of where a draw stands, states.
import { type DType, Generator, manualSeed, type Tensor } from '../../lib';
import { normalCdf } from '../../lib/objectives/times';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

/** Largest distance between the empirical distribution and `cdf`. */
function kolmogorov(values: ArrayLike<number>, cdf: (x: number) => number): number {
  const sorted = Float64Array.from(Array.from(values)).sort();
  let worst = 0;
  for (const [i, x] of sorted.entries())
    worst = Math.max(worst, Math.abs(cdf(x) - i / sorted.length), Math.abs(cdf(x) - (i + 1) / sorted.length));
  return worst;
}

const generator = (seed: number) => new Generator(seed);

describeOnDevices('random numbers', (device) => {
  const { rand, randint, randn, randperm } = on(device);
  describe('Philox', () => {
    it('gives the known answer for counter and key zero', () => {
      // Random123: philox4x32-10 of zeros is 6627e8d5 e169c58d bc57ac4c 9b00dbd8. uniform() shows 53 bits of two words.
      const [a, b] = new Generator(0).uniform(2);
      const bits = (high: number, low: number) => (BigInt(high) << 21n) ^ (BigInt(low) >> 11n);
      expect(BigInt(a! * 2 ** 53)).toBe(bits(0x6627e8d5, 0xe169c58d));
      expect(BigInt(b! * 2 ** 53)).toBe(bits(0xbc57ac4c, 0x9b00dbd8));
    });

    it('draws element i from seed, position and i alone', () => {
      const whole = randn([1000], { generator: generator(3) }).dataSync();
      const later = generator(3);
      randn([400], { generator: later });
      expect([...randn([600], { generator: later }).dataSync()]).toEqual([...whole.slice(400)]);
    });

    it('goes on from a saved state', () => {
      const first = generator(9);
      first.normal(7);
      const state = JSON.parse(JSON.stringify(first.state));
      const expected = first.normal(5);
      const second = generator(0);
      second.state = state;
      expect(second.normal(5)).toEqual(expected);
    });

    it('restarts with manualSeed', () => {
      manualSeed(4);
      const a = [...randn([5]).dataSync()];
      manualSeed(4);
      expect([...randn([5]).dataSync()]).toEqual(a);
    });
  });

  if (device !== 'cpu') {
    describe('draws', () => {
      const cpu = on('cpu');
      const generator = () => new Generator(77);
      const bits = (x: Tensor) => Array.from(x.dataSync());

      it.each(['float32', 'float64', 'bfloat16', 'float16'] as DType[])('are the bits of the CPU in %s', (dtype) => {
        for (const n of [1, 3, 4, 1027]) {
          const options = () => ({ dtype, generator: generator() });
          expect(bits(randn([n], options()))).toEqual(bits(cpu.randn([n], options())));
          const range = { low: -0.3, high: 1.7 };
          expect(bits(rand([n], { ...range, ...options() }))).toEqual(bits(cpu.rand([n], { ...range, ...options() })));
        }
      });

      it('are those of the CPU as integers and permutations, sorted in one block or in many', () => {
        const integers = [-(2 ** 31), 2 ** 31, [1027]] as const;
        expect(bits(randint(...integers, { generator: generator() }))).toEqual(
          bits(cpu.randint(...integers, { generator: generator() })),
        );
        for (const n of [1, 2, 5, 1000, 2048, 2049, 5003]) {
          expect(bits(randperm(n, { generator: generator() }))).toEqual(
            bits(cpu.randperm(n, { generator: generator() })),
          );
        }
      });
    });
  }

  describe('laws', () => {
    const n = 40_000;
    const bound = 2.2 / Math.sqrt(n); // Kolmogorov's test at about one in ten thousand

    it.each(['float32', 'float64'] as const)('are right in %s', (dtype) => {
      expect(kolmogorov(randn([n], { dtype, generator: generator(1) }).dataSync(), normalCdf)).toBeLessThan(bound);
      expect(
        kolmogorov(rand([n], { dtype, low: -2, high: 3, generator: generator(2) }).dataSync(), (x) => (x + 2) / 5),
      ).toBeLessThan(bound);
    });

    it('agrees on the host and the device in float64', () => {
      expect([...randn([11], { dtype: 'float64', generator: generator(5) }).dataSync()]).toEqual(
        generator(5).normal(11),
      );
    });

    it('keeps uniform draws below their upper bound', () => {
      const values = rand([100_000], { low: 1, high: 1 + 2 ** -23, generator: generator(6) }).dataSync();
      expect(values.every((v) => v >= 1 && v < 1 + 2 ** -23)).toBe(true);
    });

    it('draws every integer of a range, and permutations of all', () => {
      expect(
        [...new Set(randint(-3, 4, [2000], { generator: generator(7) }).dataSync())].sort((a, b) => a - b),
      ).toEqual([-3, -2, -1, 0, 1, 2, 3]);
      const order = randperm(1000, { generator: generator(8) }).dataSync();
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
      expect([...order]).not.toEqual([...order].sort((a, b) => a - b));
      expect(randperm(0).shape).toEqual([0]);
    });

    it.each([
      ['a negative seed', () => new Generator(-1), /seed must be an integer in \[0, 2\^53\), got -1/],
      ['a reversed range', () => rand([1], { low: 2, high: 1 }), /low must not exceed high/],
      ['an empty range', () => randint(3, 3, [1]), /\[low, high\) must be a range/],
      ['integers of a normal law', () => randn([1], { dtype: 'int32' }), /dtype must be a floating type/],
      ['a NaN bound', () => rand([1], { high: Number.NaN }), /high must be a finite number/],
    ] as [string, () => Tensor | Generator, RegExp][])('refuses %s', (_, call, message) => {
      const before = generator(1).state;
      expect(call).toThrow(message);
      expect(generator(1).state).toEqual(before);
    });
  });
});
