// Recorded steps of any shape: what their tensors are given of planned memory must not show in a single bit.
import fc from 'fast-check';
import {
  add,
  captureGraph,
  concat,
  copyInto,
  dispose,
  full,
  keep,
  matmul,
  mul,
  silu,
  softmax,
  split,
  synchronizeSync,
  type Tensor,
  take,
  tensor,
} from '../../lib';
import { describeOnDevices } from '../support/devices';

/** Rows may differ from tensor to tensor, columns not, so that blocks of many sizes come and go. */
const columns = 6;

const operations = {
  add: (x: Tensor, y: Tensor) => add(x, mul(y, 0.5).mean(0, { keepDims: true })),
  product: (x: Tensor, y: Tensor) => matmul(softmax(matmul(x, y.transpose())), y),
  join: (x: Tensor, y: Tensor) => concat([x, y], 0),
  half: (x: Tensor) => split(x, [Math.ceil(x.shape[0]! / 2), Math.floor(x.shape[0]! / 2)], 0)[0]!,
  view: (x: Tensor) => x.reshape([columns, -1]).reshape([-1, columns]),
  curve: (x: Tensor) => silu(x),
  dropped: (x: Tensor) => {
    mul(x, 3).dispose();
    return add(x, 1);
  },
  inPlace: (x: Tensor, y: Tensor) => {
    const made = add(x, 0);
    copyInto(made, mul(x, y.mean()));
    return made;
  },
};
type Operation = keyof typeof operations;
interface Line {
  operation: Operation;
  first: number;
  second: number;
}

const bitsOf = (x: Tensor) => new Uint32Array(x.dataSync().buffer);

const program = fc.array(
  fc.record<Line>({
    operation: fc.constantFrom(...(Object.keys(operations) as Operation[])),
    first: fc.nat(99),
    second: fc.nat(99),
  }),
  { minLength: 1, maxLength: 25 },
);

describeOnDevices('memory of a recorded step', (device, label) => {
  const values = (rows: number, from: number) =>
    tensor(
      Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(from + i)),
      { shape: [rows, columns], device },
    );

  it('shows in no bit: any program, its results, what it keeps aside and what it changes in place', () => {
    const run = (lines: readonly Line[]) => {
      const state = [keep(full([3, columns], 1, { device })), keep(full([3, columns], 1, { device }))];
      const aside: (Tensor | null)[] = [null, null];
      const stepOf = (which: number) => (x: Tensor) => {
        const made: Tensor[] = [x, state[which]!];
        for (const { operation, first, second } of lines) {
          const [a, b] = [made[first % made.length]!, made[second % made.length]!];
          const y = operations[operation](a, b);
          made.push(y.shape[0]! > 40 ? y.slice([0], [40]) : y);
        }
        aside[which]?.dispose();
        aside[which] = keep(mul(made.at(-1)!, 2));
        copyInto(state[which]!, add(mul(state[which]!, 0.9), made.at(-1)!.mean(0)));
        return [made.at(-1)!, add(made[made.length >> 1]!, 0)];
      };
      const plain = stepOf(0);
      const recorded = captureGraph(stepOf(1));
      for (let i = 0; i < 4; i++) {
        const x = values(4, i);
        const [expected, got] = [plain(x), recorded(x)];
        for (const [k, y] of [...expected, aside[0]!, state[0]!].entries()) {
          const other = [...got, aside[1]!, state[1]!][k]!;
          expect(other.shape).toEqual(y.shape);
          expect(bitsOf(other)).toEqual(bitsOf(y));
        }
        dispose([expected, got, x]);
      }
      expect(recorded.captured).toBe(true);
      recorded.dispose();
      dispose([state, aside as Tensor[]]);
    };
    fc.assert(fc.property(program, run), { numRuns: label === 'cuda-emulated' ? 10 : 100 });
  });

  (device === 'cpu' ? it : it.skip)('keeps a fault to what depends on it', () => {
    const table = tensor([1, 2, 3]);
    const counter = keep(full([], 0));
    const step = captureGraph((indices: Tensor) => {
      const taken = take(table, indices);
      copyInto(counter, add(counter, taken.sum()));
      return { taken, doubled: mul(taken, 2), other: add(table, 1) };
    });
    const call = (...indices: number[]) => step(tensor(Int32Array.from(indices)));
    for (let i = 0; i < 3; i++) call(0, 1);
    const { taken, doubled, other } = call(0, 7);
    for (const x of [taken, doubled]) expect(() => x.dataSync()).toThrow('take: indices must be in [0, 3), got 7');
    expect(Array.from(other.dataSync())).toEqual([2, 3, 4]);
    expect(counter.itemSync()).toBe(9);
    expect(Array.from(call(2, 2).doubled.dataSync())).toEqual([6, 6]);
    expect(counter.itemSync()).toBe(15);
    step.dispose();
    synchronizeSync('cpu');
  });
});
