import { DTypeError, type Tensor } from '../../lib';
import { sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

describeOnDevices('comparisons and selection', (device) => {
  const fm = on(device);
  const { checkOp, tensor } = fm;

  const values = (x: Tensor) => Array.from(x.dataSync());
  const nan = Number.NaN;
  const ops: Record<string, (a: Tensor | number, b: Tensor | number) => Tensor> = { ...fm } as never;

  describe('comparisons', () => {
    const cases = [
      ['equal', (a: number, b: number) => a === b],
      ['notEqual', (a: number, b: number) => a !== b],
      ['less', (a: number, b: number) => a < b],
      ['lessEqual', (a: number, b: number) => a <= b],
      ['greater', (a: number, b: number) => a > b],
      ['greaterEqual', (a: number, b: number) => a >= b],
    ] as const;

    it.each(cases)('%s compares tensors and numbers of every type, NaN included', (name, formula) => {
      const a = [1, 2, 3, nan, -0, 2, Infinity];
      const b = [2, 2, 1, nan, 0, nan, Infinity];
      for (const dtype of ['float32', 'float64', 'bfloat16', 'float16'] as const) {
        const [x, y] = [tensor(a, { dtype }), tensor(b, { dtype })];
        const result = ops[name]!(x, y);
        expect(result.dtype).toBe('bool');
        expect(values(result)).toEqual(a.map((v, i) => Number(formula(v, b[i]!))));
        expect(values(ops[name]!(x, 2))).toEqual(a.map((v) => Number(formula(v, 2))));
        expect(values(ops[name]!(2, x))).toEqual(a.map((v) => Number(formula(2, v))));
      }
      const whole = [1, 2, 3, -4];
      const x = tensor(whole, { dtype: 'int32' });
      expect(values(ops[name]!(x, 2.5))).toEqual(whole.map((v) => Number(formula(v, 2.5))));
      expect(values(x.reshape([4, 1])[name](x))).toEqual(whole.flatMap((v) => whole.map((w) => Number(formula(v, w)))));
    });

    it('compares long rows as it compares short ones', () => {
      const a = Float32Array.from({ length: 40_007 }, (_, i) => i % 13);
      expect(fm.less(tensor(a), 6).dataSync()).toEqual(Uint8Array.from(a, (v) => Number(v < 6)));
    });

    it('is a constant to derivatives', () => {
      const g = fm.grad((x: Tensor) => fm.mul(x, fm.greater(x, 0).to({ dtype: 'float64' })).sum())(
        tensor(Float64Array.of(-1, 2)),
      );
      expect(values(g)).toEqual([0, 1]);
    });
  });

  describe('logicalNot', () => {
    it('inverts bool and refuses anything else', () => {
      expect(values(tensor([true, false]).logicalNot())).toEqual([0, 1]);
      expect(() => fm.logicalNot(tensor([1]))).toThrow(DTypeError);
    });
  });

  describe('where', () => {
    const rows = [
      [true, false, true],
      [false, false, true],
    ];

    it('chooses between tensors and numbers, in any type', () => {
      const condition = tensor(rows);
      const a = tensor([1, 2, 3]);
      const b = tensor([[10], [20]]);
      expect(values(fm.where(condition, a, b))).toEqual([1, 10, 3, 20, 20, 3]);
      expect(values(fm.where(condition, a, -1))).toEqual([1, -1, 3, -1, -1, 3]);
      expect(values(condition.where(nan, b))).toEqual([nan, 10, nan, 20, 20, nan]);
      expect(values(fm.where(condition, tensor([7], { dtype: 'int32' }), 0))).toEqual([7, 0, 7, 0, 0, 7]);
      expect(values(fm.where(tensor(true), a, 0))).toEqual([1, 2, 3]);
      expect(() => fm.where(condition, 1, 2)).toThrow('where: a or b must be a tensor');
      expect(() => fm.where(a, a, a)).toThrow('where: condition must be bool, got float32');
      expect(() => fm.where(condition, a, tensor([1], { dtype: 'int32' }))).toThrow(DTypeError);
    });

    it('passes derivatives to what was chosen, broadcast or not', () => {
      const mask = fm.greater(tensor(sample([5, 7], 3).values as Float64Array, { shape: [5, 7] }), 0);
      checkOp((a, b) => fm.where(mask, a, b), [sample([5, 7], 1), sample([7], 2)]);
      checkOp((a) => fm.where(mask, a, 2), [sample([5, 1], 1)]);
      checkOp((b) => fm.where(mask, -1, b), [sample([], 1)]);
      checkOp((a, b) => fm.where(tensor(true), a, b), [sample([3], 1), sample([2, 1], 2)]);
    });

    it('does not spread what is not chosen', () => {
      const x = tensor(Float64Array.of(-1, 4));
      const g = fm.grad((y: Tensor) => fm.where(fm.greater(y, 0), fm.sqrt(fm.maximum(y, 1e-3)), 0).sum())(x);
      expect(values(g)).toEqual([0, 0.25]);
    });
  });
});
