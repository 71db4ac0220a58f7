// Activations: value in every dtype, derivatives to third order by nesting.
import { gelu, grad, jvp, silu, type Tensor, tensor } from '../../lib';
import { checkOp, sample } from '../support/checkOp';

const cases: [string, (x: Tensor) => Tensor, (x: number) => number][] = [
  ['gelu', gelu, (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))],
  ['silu', silu, (x) => x / (1 + Math.exp(-x))],
];

describe.each(cases)('%s', (_, op, formula) => {
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
});
