// Whole lists of tensors in one launch: hundreds of them, of odd sizes, of all types, and none at all. Each must get the
// bits that it gets alone on the CPU.
import {
  AdamW,
  cast,
  copyInto,
  type DType,
  globalNorm,
  RAdam,
  type RAdamOptions,
  type Tensor,
  tensor,
} from '../../lib';
import { native } from '../../lib/native';
import { relativeError, sample } from '../support/checkOp';
import { describeOnDevices } from '../support/devices';

const floating = ['float32', 'float64', 'bfloat16', 'float16'] as const;
const sizes = [1, 0, 3, 7, 8, 9, 31, 100];
const large = [4095, 4096, 4097, 9001];

interface Entry {
  dtype: DType;
  size: number;
}
const entries = (count: number): Entry[] => [
  ...Array.from({ length: count }, (_, i) => ({ dtype: floating[(i * 7) % 4]!, size: sizes[i % sizes.length]! })),
  ...large.flatMap((size) => floating.map((dtype) => ({ dtype, size }))),
];
const bits = (x: Tensor) => Array.from(x.dataSync());

describeOnDevices('lists of tensors', (device) => {
  const draw = ({ dtype, size }: Entry, seed: number, on = device) =>
    tensor(Float64Array.from(sample([size], seed).values), { dtype, device: on });
  const list = (all: readonly Entry[], seed: number, on = device) =>
    new Map(all.map((entry, i) => [`p${i}`, draw(entry, seed + i, on)]));

  it.each([
    ['AdamW', AdamW, { weightDecay: 0.1 }],
    ['RAdam', RAdam, { betas: [0.9, 0.6], weightDecay: 0.1 }],
    ['RAdam, adaptive', RAdam, { betas: [0.9, 0.9], weightDecay: 0.1 }],
    ['RAdam, decoupled', RAdam, { weightDecay: 0.1, decoupled: true }],
  ] as [string, typeof AdamW | typeof RAdam, RAdamOptions][])(
    'are stepped as each alone, to the bit: %s',
    (title, Optimizer, options) => {
      const all = title === 'AdamW' ? entries(300) : entries(20);
      const steps = title === 'RAdam, adaptive' ? 8 : 2;
      const params = list(all, 1);
      const optimizer = new Optimizer(params, { lr: 0.01, ...options });
      for (let step = 0; step < steps; step++) {
        optimizer.update(list(all, 1000 * (step + 1)), { gradScale: tensor(0.75, { device }) });
      }
      const state = optimizer.stateDict().tensors;
      for (const [i, entry] of all.entries()) {
        const name = `p${i}`;
        const alone = new Map([[name, draw(entry, 1 + i, 'cpu')]]);
        const expected = new Optimizer(alone, { lr: 0.01, ...options });
        for (let step = 0; step < steps; step++) {
          const grads = new Map([[name, draw(entry, 1000 * (step + 1) + i, 'cpu')]]);
          expected.update(grads, { gradScale: tensor(0.75) });
        }
        expect([i, bits(params.get(name)!)]).toEqual([i, bits(alone.get(name)!)]);
        for (const [key, value] of expected.stateDict().tensors) {
          expect([key, bits(state.get(key)!)]).toEqual([key, bits(value)]);
        }
      }
    },
    60_000,
  );

  it('are averaged as each alone, into their own type or float32', () => {
    const all = entries(280);
    const own = all.map((entry, i) => i % 3 === 0 || entry.dtype === 'float64');
    const averages = (on: string) =>
      all.map((entry, i) => draw({ ...entry, dtype: own[i] ? entry.dtype : 'float32' }, 5 + i, on));
    const [got, expected] = [averages(device), averages('cpu')];
    const handles = (tensors: Iterable<Tensor>) => [...tensors].map((x) => x._handle);
    const [here, there] = [list(all, 700), list(all, 700, 'cpu')];
    native.emaUpdate(handles(got), handles(here.values()), 0.9);
    for (const [i, param] of [...there.values()].entries()) {
      native.emaUpdate([expected[i]!._handle], [param._handle], 0.9);
      expect([i, bits(got[i]!)]).toEqual([i, bits(expected[i]!)]);
    }
  });

  it('have one norm, the same bits each time', () => {
    const all = [...list(entries(600), 3).values(), draw({ dtype: 'float32', size: 40_001 }, 9)];
    let sum = 0; // one after the other, which costs digits of its own
    for (const x of all) for (const value of x.dataSync()) sum += value * value;
    const norm = globalNorm(all);
    expect(norm.dtype).toBe('float64');
    expect(relativeError(norm.dataSync(), [Math.sqrt(sum)])).toBeLessThan(1e-13);
    expect(globalNorm(all).itemSync()).toBe(norm.itemSync());
    const narrow = all.filter((x) => x.dtype !== 'float64');
    expect(globalNorm(narrow).itemSync()).toBe(globalNorm(narrow.map((x) => x.to({ device: 'cpu' }))).itemSync());
    expect(globalNorm([tensor([3e30, 4e30], { device })]).itemSync()).toBeCloseTo(Math.fround(5e30), -25);
  });

  it('may be empty, and so may be what is in them', () => {
    native.adamwStep([], [], [], [], [], null, 0.1, 0.9, 0.99, 1e-8, 0, 1);
    native.emaUpdate([], [], 0.9);
    const nothing = () => tensor([], { dtype: 'float32', device });
    new AdamW(new Map([['w', nothing()]])).update(new Map([['w', nothing()]]));
    copyInto(nothing(), nothing());
    expect(globalNorm([nothing(), nothing()]).itemSync()).toBe(0);
    expect(() => globalNorm([])).toThrow(/tensors must hold at least one tensor/);
  });

  it('are copied from any type into any other', () => {
    const dtypes: DType[] = [...floating, 'int32', 'bool'];
    for (const from of dtypes) {
      for (const to of dtypes) {
        for (const size of [1, 13, 1003]) {
          const source = cast(
            tensor(
              Float64Array.from(sample([size], size).values, (x) => x * 3),
              { device },
            ),
            from,
          );
          const target = cast(tensor(new Float64Array(size), { device }), to);
          copyInto(target, source);
          const expected = tensor(new Float64Array(size), { dtype: to });
          copyInto(expected, source.to({ device: 'cpu' }));
          expect([from, to, bits(target)]).toEqual([from, to, bits(expected)]);
        }
      }
    }
  });
});
