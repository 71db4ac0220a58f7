// Random programs on a device against the CPU's results, every function of the addon under arbitrary arguments, and
// tensors of two devices in every function that takes several.
import * as lib from '../../lib';
import { native } from '../../lib/native';
import { describeOnDevices } from '../support/devices';
import { fuzzAddon } from '../support/fuzzAddon';

type Tensor = lib.Tensor;
type Step = (x: Tensor, other: Tensor, random: () => number) => Tensor;

function makeRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
const pickFrom = <T>(items: readonly T[], random: () => number): T => items[Math.floor(random() * items.length)]!;

// Each takes numbers from `random` in an order that does not depend on values, so that every device walks alike.
const arithmetic: Step[] = [
  (x, y) => lib.add(x, y),
  (x, y) => lib.sub(y, x),
  (x, y) => lib.mul(x, y),
  (x, y) => lib.maximum(x, y),
  (x, y) => lib.minimum(x, y),
  (x) => lib.neg(x),
  (x) => lib.abs(x),
  (x) => lib.sign(x),
  (x) => lib.square(x),
  (x, _, random) => lib.add(x, Math.floor(random() * 7) - 3),
  (x, _, random) => lib.sub(Math.floor(random() * 7) - 3, x),
  (x) => lib.clamp(x, { low: -5, high: 90 }),
  (x, y) => lib.where(lib.less(x, y), x, y),
  (x, y) => lib.where(lib.greaterEqual(x, y), 2, x),
  (x, y) => lib.cast(lib.equal(x, y), x.dtype),
  (x) => lib.cast(lib.logicalNot(lib.notEqual(x, 1)), x.dtype),
  (x, _, random) => lib.cast(lib.cast(x, pickFrom(['int32', 'bool', 'float32'] as const, random)), x.dtype),
];
const order: Step[] = [
  (x, _, random) => lib.flip(x, Math.floor(random() * x.rank)),
  (x, _, random) => lib.transpose(x, Math.floor(random() * x.rank), Math.floor(random() * x.rank)),
  (x) => lib.reshape(x, [x.size]),
  (x) => lib.reshape(x, [...Array(Math.max(0, 7 - x.rank)).fill(1), ...x.shape, 1]),
  (x) => lib.squeeze(x),
  (x, _, random) => lib.slice(x, [Math.floor(random() * (x.shape[0]! + 1))]),
  (x, _, random) => lib.concat([x, x, x], Math.floor(random() * x.rank)),
  (x) =>
    lib.pad(
      x,
      x.shape.map((_, i) => [i % 2, 1] as const),
      3,
    ),
  (x) => lib.broadcastTo(lib.expandDims(x, 0), [3, ...x.shape]),
  (x) => lib.stack(lib.split(x, 1, 0), 0),
  (x) => (x.size === 0 ? x : lib.take(x, lib.tensor([0, x.shape[0]! - 1, 0], { dtype: 'int32', device: x.device }), 0)),
  (x, _, random) => lib.max(x, Math.floor(random() * x.rank), { keepDims: true }),
  (x, _, random) => lib.min(x, Math.floor(random() * x.rank)),
  (x, _, random) => lib.cast(lib.argmax(x, Math.floor(random() * x.rank)), x.dtype),
  (x, _, random) => lib.cast(lib.argmin(x, Math.floor(random() * x.rank), { keepDims: true }), x.dtype),
  (x, _, random) => lib.sum(lib.sign(x), Math.floor(random() * x.rank)), // exact, whatever is added first
];
const shapes = [[], [1], [0], [7], [33, 1], [3, 0, 2], [5, 16], [17, 35], [2, 1, 3, 8], [1, 2, 1, 3, 1, 2, 2, 2]];
const special = [0, -0, 1, -1, 2.5, -7, 1e-40, 65504, 70000, 2 ** 31, -(2 ** 31), 3e38, Infinity, -Infinity, NaN];

type Told = { values?: unknown[]; shape?: readonly number[]; error?: string };

// What a program of `length` steps makes on `device`, step by step.
async function run(device: string, seed: number, length: number): Promise<Told[]> {
  const random = makeRandom(seed);
  const dtype = pickFrom(['float32', 'float64', 'bfloat16', 'float16', 'int32'] as const, random);
  const make = (shape: readonly number[]) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const values = Array.from({ length: size }, () => {
      const one = random() < 0.3 ? pickFrom(special, random) : Math.floor(random() * 9) - 4;
      return dtype !== 'int32' ? one : Number.isInteger(one) && Math.abs(one) < 2 ** 31 ? one : 0;
    });
    const flat = lib.tensor(Float64Array.from(values), { dtype: 'float64', device });
    return lib.reshape(lib.cast(flat, dtype), shape);
  };
  const shape = pickFrom(shapes, random);
  let x = make(shape);
  const told: Told[] = [];
  const reads: Promise<void>[] = [];
  for (let i = 0; i < length; i++) {
    const step = pickFrom(random() < 0.5 ? arithmetic : order, random);
    const entry: Told = {};
    told.push(entry);
    try {
      const other = make(random() < 0.3 ? [] : x.shape);
      const next = step(x, other, random);
      other.dispose();
      if (next !== x) x.dispose();
      x = next.size > 4000 ? lib.reshape(lib.slice(lib.reshape(next, [next.size]), [0], [777]), [21, 37]) : next;
      entry.shape = x.shape;
      if (random() < 0.4) {
        reads.push(
          x.data().then((data) => {
            entry.values = Array.from(data, (value) => (value === 0 ? 0 : value)); // of two zeros, either may be the larger
          }),
        );
      }
    } catch (error) {
      if (!(error instanceof lib.FlowmapError)) throw error;
      entry.error = error.message;
      x.dispose();
      x = make(shape);
    }
  }
  x.dispose();
  await Promise.all(reads);
  return told;
}

describeOnDevices('arbitrary programs', (device) => {
  if (device === 'cpu') return it.skip('is what others are compared with', () => {});

  it('come out as on the CPU, to the last bit where no function is involved', async () => {
    for (let seed = 1; seed <= 300; seed++) {
      const [expected, got] = await Promise.all([run('cpu', seed, 14), run(device, seed, 14)]);
      got.forEach((one, i) => {
        expect({ seed, i, ...one }).toEqual({ seed, i, ...expected[i] });
      });
    }
  });

  it('never end the process, whatever the arguments', () => fuzzAddon([device, 'cpu'], 15_000), 60_000);

  it('name the argument and both devices where tensors of two devices meet', () => {
    const here = lib.tensor([1, 2], { device });
    const there = lib.tensor([1, 2]);
    const places = `must be on (${here.device}, got a tensor on cpu|cpu, got a tensor on ${here.device})`;
    const index = lib.tensor([0], { dtype: 'int32' });
    const square = lib.ones([2, 2], { device });
    const cases: [string, () => unknown][] = [
      ['maximum: b', () => lib.maximum(here, there)],
      ['less: b', () => lib.less(here, there)],
      ['where: a', () => lib.where(lib.equal(there, 1), here, here)],
      ['where: b', () => lib.where(lib.equal(here, 1), here, there)],
      ['take: indices', () => lib.take(here, index)],
      ['takeVjp: indices', () => native.takeVjp(lib.ones([1], { device })._handle, index._handle, [2], 0)],
      ['matmul: b', () => lib.matmul(square, lib.ones([2, 2]))],
    ];
    for (const [argument, call] of cases) {
      expect(call).toThrow(lib.DeviceError);
      expect(call).toThrow(new RegExp(`^${argument}.*${places}`));
    }
    expect(() => lib.concat([here, there])).toThrow(/^concat: tensors must be on \S+, got a tensor on cpu/);
  });

  it('read thousands of tensors at once, disposed in between', async () => {
    const reads = Array.from({ length: 3000 }, (_, i) => {
      const x = lib.full([1 + (i % 9)], i, { device });
      const read = x.data();
      x.dispose();
      return read;
    });
    (await Promise.all(reads)).forEach((data, i) => {
      expect(data[i % 9]).toBe(i);
    });
  });
});
