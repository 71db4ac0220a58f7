import { add, checkpoint, cos, grad, jvp, mul, sin, stopGradient, Tape, tensor, tidy, valueAndGrad, vjp } from '../lib';
import { settledMemory } from './support/collect';

const x0 = 0.7;
const scalar = (v: number) => tensor(v, { dtype: 'float64' });
// f(x) = x · sin(x)
const f = (x: ReturnType<typeof tensor>) => mul(x, sin(x));
const d1 = Math.sin(x0) + x0 * Math.cos(x0);
const d2 = 2 * Math.cos(x0) - x0 * Math.sin(x0);

describe('nested differentiation', () => {
  it('gives value and gradient of a function', () => {
    const [value, gradient] = valueAndGrad(f)(scalar(x0));
    expect(value.itemSync()).toBeCloseTo(x0 * Math.sin(x0), 14);
    expect(gradient.itemSync()).toBeCloseTo(d1, 14);
  });

  it.each([
    ['reverse over forward', (x) => grad((y: typeof x) => jvp(f, [y], [scalar(1)])[1])(x)],
    ['forward over reverse', (x) => jvp((y: typeof x) => grad(f)(y), [x], [scalar(1)])[1]],
    ['reverse over reverse', (x) => grad((y: typeof x) => grad(f)(y))(x)],
    ['forward over forward', (x) => jvp((y: typeof x) => jvp(f, [y], [scalar(1)])[1], [x], [scalar(1)])[1]],
    ['reverse over checkpointed forward', (x) => grad((y: typeof x) => jvp(checkpoint(f), [y], [scalar(1)])[1])(x)],
    [
      'reverse over a checkpointed derivative',
      (x) => grad((y: typeof x) => checkpoint(() => jvp(f, [y], [scalar(1)])[1])())(x),
    ],
    ['reverse over reverse of a checkpoint', (x) => grad((y: typeof x) => grad(checkpoint(f))(y))(x)],
  ] as [string, (x: ReturnType<typeof tensor>) => ReturnType<typeof tensor>][])(
    '%s gives the second derivative',
    (_, second) => {
      expect(second(scalar(x0)).itemSync()).toBeCloseTo(d2, 13);
    },
  );

  it('sees closed-over variables inside a checkpoint', () => {
    const g = grad((w: ReturnType<typeof tensor>) => checkpoint((x: typeof w) => mul(w, mul(w, cos(x))))(scalar(x0)))(
      scalar(3),
    );
    expect(g.itemSync()).toBeCloseTo(6 * Math.cos(x0), 14);
    const h = grad((w: ReturnType<typeof tensor>) =>
      checkpoint((x: typeof w) => mul(w, mul(w, cos(x))), { captures: [w] })(scalar(x0)),
    )(scalar(3));
    expect(h.itemSync()).toBeCloseTo(6 * Math.cos(x0), 14);
    expect(() =>
      grad((w: ReturnType<typeof tensor>) => checkpoint((x: typeof w) => mul(w, x), { captures: [] })(scalar(1)))(
        scalar(3),
      ),
    ).toThrow('captures');
  });

  it('does not confuse the perturbations of two levels', () => {
    // d/dx [x · d/dy (x + y)] = 1, the classic trap
    const g = jvp(
      (x: ReturnType<typeof tensor>) => mul(x, jvp((y: typeof x) => add(x, y), [scalar(1)], [scalar(1)])[1]),
      [scalar(2)],
      [scalar(1)],
    );
    expect(g[1].itemSync()).toBe(1);
  });

  it('stops gradients of both modes', () => {
    const stopped = (x: ReturnType<typeof tensor>) => mul(x, stopGradient(sin(x)));
    expect(grad(stopped)(scalar(x0)).itemSync()).toBeCloseTo(Math.sin(x0), 14);
    expect(jvp(stopped, [scalar(x0)], [scalar(1)])[1].itemSync()).toBeCloseTo(Math.sin(x0), 14);
  });

  it('pulls cotangents back more than once', () => {
    const [out, pullback] = vjp(
      (x: ReturnType<typeof tensor>, y: typeof x) => [mul(x, y), add(x, y)],
      [scalar(2), scalar(5)],
    );
    expect(out.map((o) => o.itemSync())).toEqual([10, 7]);
    expect(pullback([scalar(1), scalar(0)]).map((g) => g.itemSync())).toEqual([5, 2]);
    expect(pullback([scalar(0), scalar(3)]).map((g) => g.itemSync())).toEqual([3, 3]);
    pullback.dispose();
    expect(() => pullback([scalar(1), scalar(1)])).toThrow('disposed');
  });

  it('gives gradients by name and keeps nothing alive', async () => {
    const params = new Map([
      ['a', scalar(2)],
      ['b', scalar(3)],
    ]);
    const before = await settledMemory('cpu');
    for (let i = 0; i < 50; i++) {
      const [value, gradients] = valueAndGrad((p: typeof params) => mul(mul(p.get('a')!, p.get('a')!), p.get('b')!))(
        params,
      );
      expect([value.itemSync(), gradients.get('a').itemSync(), gradients.get('b').itemSync()]).toEqual([12, 12, 4]);
      value.dispose();
      for (const g of gradients.values()) g.dispose();
      tidy(() => {
        grad((y: ReturnType<typeof tensor>) => jvp(checkpoint(f), [y], [scalar(1)])[1])(scalar(1));
      });
    }
    const after = await settledMemory('cpu');
    expect(after.tensors).toBe(before.tensors);
    expect(after.bytes).toBe(before.bytes);
    for (const p of params.values()) p.dispose();
  });

  it('records by hand', () => {
    using tape = new Tape();
    const x = tape.watch(scalar(x0));
    const [g] = tape.gradient(f(x), [x]);
    expect(g!.itemSync()).toBeCloseTo(d1, 14);
  });
});
