// A step that follows a fault leaves everything as it was, on devices that learn of the fault only with the next read
// too: a loss that is not finite costs one step, not the weights.
import { AdamW, add, checkFinite, copyInto, Ema, mul, NumericalError, RAdam, type Tensor, take } from '../../lib';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

describeOnDevices('a step after a fault', (device) => {
  const { ones, tensor } = on(device);

  const values = (x: Tensor) => Array.from(x.dataSync());
  const all = (tensors: Iterable<Tensor>) => [...tensors].map(values);

  it.each([
    ['AdamW of float32', AdamW, 'float32'],
    ['AdamW of bfloat16', AdamW, 'bfloat16'],
    ['RAdam of float32', RAdam, 'float32'],
    ['RAdam of float16', RAdam, 'float16'],
  ] as const)('changes nothing, and the next good one goes on: %s', (_, Optimizer, dtype) => {
    const make = () => {
      const params = new Map([
        ['w', tensor([1, 2, -3], { dtype })],
        ['b', ones([4099], { dtype })],
      ]);
      return { params, optimizer: new Optimizer(params, { lr: 0.5, weightDecay: 0.1 }), ema: new Ema(params, 0.5) };
    };
    type Run = ReturnType<typeof make>;
    const everything = ({ params, optimizer, ema }: Run) =>
      all([...params.values(), ...optimizer.stateDict().tensors.values(), ...ema.tensors.values()]);
    const step = ({ params, optimizer, ema }: Run, loss: Tensor) => {
      const grads = new Map([...params].map(([name, p]) => [name, add(mul(p, 0.25), mul(loss, 0))]));
      optimizer.update(grads);
      ema.update();
      return grads;
    };
    const good = () => tensor(1, { dtype });
    const [struck, spared] = [make(), make()];
    for (const run of [struck, spared]) {
      step(run, good());
      run.ema.reset();
    }
    const before = everything(struck);

    const loss = checkFinite(tensor(Number.NaN, { dtype }), 'the loss');
    const grads = step(struck, loss);
    copyInto(struck.params.get('w')!, grads.get('w')!);
    expect(() => loss.dataSync()).toThrow(NumericalError);
    expect(everything(struck)).toEqual(before);

    // Its number has been used; the moments have not moved.
    struck.optimizer.loadStateDict({ ...struck.optimizer.stateDict(), step: 1 });
    step(struck, good());
    step(spared, good());
    expect(everything(struck)).toEqual(everything(spared));
    expect(everything(struck)).not.toEqual(before);
  });

  it.each(['the loss', 'something else'])(
    'changes nothing where %s was being read, but nobody told yet',
    async (what) => {
      const w = tensor([1, 2, 3]);
      const step = (grad: Tensor) => new AdamW(new Map([['w', w]]), { lr: 1 }).update(new Map([['w', grad]]));
      const loss = checkFinite(tensor(Number.NaN), 'the loss');
      const read = (what === 'the loss' ? loss : device === 'cpu' ? loss : w).data();
      step(mul(w, loss));
      await expect(read).rejects.toThrow(NumericalError);
      expect(values(w)).toEqual([1, 2, 3]);
      step(ones([3]));
      for (const [i, value] of values(w).entries()) expect(value).toBeCloseTo(i, 5);
    },
  );

  it('changes nothing, be it told on another device', async () => {
    const w = tensor([1, 2, 3]);
    const step = (grad: Tensor) => new AdamW(new Map([['w', w]]), { lr: 1 }).update(new Map([['w', grad]]));
    const loss = checkFinite(tensor(Number.NaN), 'the loss').to({ device: 'cpu' });
    step(mul(w, Number.NaN));
    expect(() => loss.dataSync()).toThrow(NumericalError);
    if (device === 'cpu') return; // a gradient that is not finite is no fault there
    expect(values(w)).toEqual([1, 2, 3]);
    step(ones([3]));
    for (const [i, value] of values(w).entries()) expect(value).toBeCloseTo(i, 5);
  });

  it('changes nothing after an index out of range', () => {
    const w = tensor([1, 2, 3]);
    const optimizer = new AdamW(new Map([['w', w]]), { lr: 1 });
    const row = take(w, tensor([0, 1, 3], { dtype: 'int32' }));
    optimizer.update(new Map([['w', row]]));
    expect(() => row.dataSync()).toThrow('take: indices must be in [0, 3), got 3 at position 2');
    expect(values(w)).toEqual([1, 2, 3]);
    new AdamW(new Map([['w', w]]), { lr: 1 }).update(new Map([['w', ones([3])]]));
    for (const [i, value] of values(w).entries()) expect(value).toBeCloseTo(i, 5);
  });

  it('does not keep masters and averages from starting at their parameters', () => {
    const w = ones([5], { dtype: 'bfloat16' });
    const faulty = checkFinite(tensor(Number.POSITIVE_INFINITY), 'the loss');
    const master = new AdamW(new Map([['w', w]])).stateDict().tensors.get('master.w')!;
    const averages = [new Ema(new Map([['w', w]]), 0.9), new Ema(new Map([['w', ones([2])]]), 0.9)];
    expect(() => faulty.dataSync()).toThrow(NumericalError);
    expect(values(master)).toEqual([1, 1, 1, 1, 1]);
    expect(averages.map((ema) => values(ema.tensors.get('w')!))).toEqual([
      [1, 1, 1, 1, 1],
      [1, 1],
    ]);
  });
});
