import { ArgumentError, DTypeError, type Tensor } from '../../lib';
import { sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

describeOnDevices('gathering', (device) => {
  const fm = on(device);
  const { checkOp, tensor } = fm;

  const values = (x: Tensor) => Array.from(x.dataSync());
  const int32 = (data: number[], shape?: number[]) => tensor(data, { dtype: 'int32', ...(shape ? { shape } : {}) });

  describe('take', () => {
    it('takes entries along any axis, in the shape of the indices', () => {
      const x = fm.arange(12).reshape([3, 4]);
      expect(values(fm.take(x, int32([2, 0])))).toEqual([8, 9, 10, 11, 0, 1, 2, 3]);
      expect(values(fm.take(x, int32([3, 3, 0]), 1))).toEqual([3, 3, 0, 7, 7, 4, 11, 11, 8]);
      expect(fm.take(x, int32([0, 1, 2, 0], [2, 2]), -1).shape).toEqual([3, 2, 2]);
      expect(values(x.take(int32([1], []), 1))).toEqual([1, 5, 9]);
      expect(fm.take(x, int32([])).shape).toEqual([0, 4]);
    });

    it('adds gradients up where an index comes again, and differentiates to any order', () => {
      const ids = int32([2, 0, 2, 2, 1]);
      checkOp((x) => fm.take(x, ids), [sample([4, 33], 1)]);
      checkOp((x) => fm.take(fm.square(x), ids, 1), [sample([3, 4, 2], 1)]);
      checkOp((x) => fm.take(x, int32([1, 1, 0, 3], [2, 2]), 0), [sample([4], 1)]);
      checkOp((g) => fm.takeVjp(g, ids, [4, 3]), [sample([5, 3], 1)]);
      const g = fm.grad((x: Tensor) => fm.embedding(x, ids).sum())(fm.zeros([4, 2], { dtype: 'float64' }));
      expect(values(g)).toEqual([1, 1, 1, 1, 3, 3, 0, 0]);
    });

    it('adds the rows of a large batch in double precision and the same bits every time', () => {
      const [count, width, size] = [2500, 65, 7];
      const ids = int32(Array.from({ length: count }, (_, i) => (i * 31) % size));
      const data = sample([count, width], 3).values;
      const g = tensor(Float32Array.from(data), { shape: [count, width] });
      const expected = new Float64Array(size * width);
      for (let i = 0; i < count; i++) {
        for (let j = 0; j < width; j++) expected[((i * 31) % size) * width + j]! += Math.fround(data[i * width + j]!);
      }
      const first = fm.takeVjp(g, ids, [size, width]).dataSync();
      expect(first).toEqual(Float32Array.from(expected));
      for (let run = 0; run < 5; run++) expect(fm.takeVjp(g, ids, [size, width]).dataSync()).toEqual(first);
      const narrow = fm.takeVjp(g.to({ dtype: 'bfloat16' }), ids, [size, width]);
      expect(narrow.dtype).toBe('bfloat16');
    });

    it('reports an index that is out of range where the result is read, however deep', async () => {
      const x = fm.ones([3, 2]);
      for (const bad of [3, -1, 2 ** 31 - 1]) {
        const y = () => fm.add(fm.take(x, int32([0, bad])), 1);
        await expect(y().data()).rejects.toThrow(ArgumentError);
        expect(() => y().dataSync()).toThrow(`take: indices must be in [0, 3), got ${bad} at position 1`);
      }
      expect(() => fm.takeVjp(fm.ones([1, 2]), int32([5]), [3, 2]).dataSync()).toThrow('takeVjp: indices');
      expect(values(x)).toEqual([1, 1, 1, 1, 1, 1]);
    });

    it('refuses other index types, axes and shapes at the call', () => {
      expect(() => fm.take(fm.ones([3]), fm.ones([1]))).toThrow(DTypeError);
      expect(() => fm.take(fm.ones([3]), int32([0]), 1)).toThrow('take: axis must be an axis in [-1, 1), got 1');
      expect(() => fm.takeVjp(fm.ones([2, 2]), int32([0]), [3, 2])).toThrow(
        'takeVjp: g must have shape [1, 2], got [2, 2]',
      );
    });
  });

  describe('oneHot', () => {
    it('sets one entry of each row, in any type', () => {
      expect(values(fm.oneHot(int32([1, 0, 2]), 3))).toEqual([0, 1, 0, 1, 0, 0, 0, 0, 1]);
      expect(fm.oneHot(int32([1, 0], [2, 1]), 4, { dtype: 'bfloat16' }).shape).toEqual([2, 1, 4]);
      expect(values(fm.oneHot(int32([1]), 2, { dtype: 'bool' }))).toEqual([0, 1]);
      expect(() => fm.oneHot(int32([3]), 3).dataSync()).toThrow(
        'oneHot: indices must be in [0, 3), got 3 at position 0',
      );
      expect(() => fm.oneHot(int32([3]), 0)).toThrow(ArgumentError);
    });
  });

  describe('arange and eye', () => {
    it('count and mark the diagonal', () => {
      expect(values(fm.arange(4))).toEqual([0, 1, 2, 3]);
      expect(fm.arange(4).dtype).toBe('int32');
      expect(values(fm.arange(1, 2, 0.25))).toEqual([1, 1.25, 1.5, 1.75]);
      expect(values(fm.arange(5, 0, -2))).toEqual([5, 3, 1]);
      expect(fm.arange(3, 1).shape).toEqual([0]);
      expect(() => fm.arange(0, 1, 0)).toThrow(ArgumentError);
      expect(values(fm.eye(2, 3))).toEqual([1, 0, 0, 0, 1, 0]);
    });
  });
});
