// Activations: value in every dtype, derivatives to third order by nesting, on every device.
import { native } from '../../lib/native';
import { Tensor } from '../../lib/tensor';
import { relativeError, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

describeOnDevices('activations', (device) => {
  const { checkOp, gelu, grad, jvp, silu, tensor } = on(device);

  const cases: ['gelu' | 'silu', (x: Tensor) => Tensor, (x: number) => number][] = [
    ['gelu', gelu, (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))],
    ['silu', silu, (x) => x / (1 + Math.exp(-x))],
  ];

  describe.each(cases)('%s', (name, op, formula) => {
    it.each([0, 1, 15, 16, 17, 5000])('has its value and derivatives on %i elements', (n) => {
      checkOp((x) => op(x!), [sample([n], n)], { reference: (x) => x.map(formula), slack: 2 });
    });

    it('is flat or linear far out, and NaN stays NaN', () => {
      expect([...op(tensor([-100, 100, 0, Number.NaN])).dataSync()]).toEqual([-0, 100, 0, Number.NaN]);
    });

    it('has a third derivative through its composition', () => {
      const one = tensor([1], { dtype: 'float64' });
      const second = (x: Tensor) => jvp((y: Tensor) => jvp(op, [y], [one])[1], [x], [one])[1];
      const at = 0.6;
      const step = 1e-4;
      const value = (x: number) => second(tensor([x], { dtype: 'float64' })).dataSync()[0]!;
      const third = grad((x: Tensor) => second(x).sum())(tensor([at], { dtype: 'float64' })).dataSync()[0]!;
      expect(third).toBeCloseTo((value(at + step) - value(at - step)) / (2 * step), 6);
    });

    it.each(['float32', 'float64', 'bfloat16', 'float16'] as const)(
      'takes what is absent for zero and leaves out what is not needed, in %s',
      (dtype) => {
        const n = 1003;
        const upload = (seed: number) => tensor(Float64Array.from(sample([n], seed).values as Float64Array), { dtype });
        const [x, tx, g, h] = [upload(1), upload(2), upload(3), upload(4)];
        const zero = tensor(new Float64Array(n), { dtype });
        const handle = (t: Tensor | null) => (t ? t._handle : null);
        const backward = (
          tangent: Tensor | null,
          u: Tensor | null,
          v: Tensor | null,
          needX: boolean,
          needTx: boolean,
        ) =>
          native[`${name}JvpVjp`](x._handle, handle(tangent), handle(u), handle(v), needX, needTx).map((t) =>
            t == null ? null : new Tensor(t),
          );
        for (let present = 0; present < 8; present++) {
          const [hasTx, hasG, hasH] = [(present & 1) !== 0, (present & 2) !== 0, (present & 4) !== 0];
          if (!hasG && !hasH) continue;
          const given = [hasTx ? tx : null, hasG ? g : null, hasH ? h : null] as const;
          const filled = [hasTx ? tx : zero, hasG ? g : zero, hasH ? h : zero] as const;
          const expected = backward(...filled, true, true).map((t) => t!.dataSync());
          for (const [needX, needTx] of [
            [true, true],
            [true, false],
            [false, true],
          ] as const) {
            const got = backward(...given, needX, needTx);
            expect(got.map((t) => t !== null)).toEqual([needX, needTx]);
            for (const [i, t] of got.entries()) if (t) expect(relativeError(t.dataSync(), expected[i]!)).toBe(0);
          }
        }
      },
    );
  });

  it('gelu keeps its digits where it is small', () => {
    const x = Float32Array.from({ length: 40 }, (_, i) => -i / 8);
    // x σ(2u), which does not cancel as 1 + tanh(u) does
    const expected = Array.from(x, (v) => v / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))));
    for (const [i, value] of gelu(tensor(x)).dataSync().entries()) {
      expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(2e-5 * Math.abs(expected[i]!));
    }
  });
});
