import fc from 'fast-check';
import type * as library from '../../lib';
import { ArgumentError, ShapeError, type Tensor } from '../../lib';
import { sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';

describeOnDevices('shapes', (device) => {
  const fm = on(device);
  const { checkOp, tensor } = fm;

  const values = (x: Tensor) => Array.from(x.dataSync());
  const whole = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

  /** Elements of `count(shape)` in row-major order, each from `from(index)`. */
  function build(shape: readonly number[], from: (index: number[]) => number): number[] {
    return Array.from({ length: whole(shape) }, (_, flat) => {
      const index = new Array<number>(shape.length);
      for (let i = shape.length - 1, rest = flat; i >= 0; i--) {
        index[i] = rest % shape[i]!;
        rest = Math.floor(rest / shape[i]!);
      }
      return from(index);
    });
  }
  const flatten = (index: readonly number[], shape: readonly number[]) =>
    index.reduce((at, i, axis) => at * shape[axis]! + i, 0);
  const counting = (shape: readonly number[], dtype: library.DType = 'int32') =>
    tensor(
      Array.from({ length: whole(shape) }, (_, i) => i),
      { shape, dtype },
    );
  const shapes = fc.array(fc.constantFrom<number>(1, 2, 3, 5, 9), { minLength: 1, maxLength: 5 });

  describe('reshape', () => {
    it('shares storage, fills in -1 and differentiates', () => {
      const x = counting([2, 6]);
      expect(x.reshape([3, -1]).shape).toEqual([3, 4]);
      expect(values(x.reshape([-1]))).toEqual(values(x));
      checkOp((y) => fm.reshape(y, [6, 2]), [sample([3, 4], 1)]);
      expect(() => x.reshape([5, -1])).toThrow(ShapeError);
      expect(() => x.reshape([-1, -1])).toThrow('at most one -1');
      expect(() => x.reshape([13])).toThrow('reshape: shape must have the 12 elements of x [2, 6], got [13]');
      expect(fm.zeros([0, 3]).reshape([3, 0]).shape).toEqual([3, 0]);
    });

    it('gives a handle that outlives the original', () => {
      const x = counting([4]);
      const y = x.reshape([2, 2]);
      x.dispose();
      expect(values(y)).toEqual([0, 1, 2, 3]);
    });

    it('adds and drops axes of size 1', () => {
      const x = counting([2, 3]);
      expect(x.expandDims(0).shape).toEqual([1, 2, 3]);
      expect(x.expandDims(-1).shape).toEqual([2, 3, 1]);
      expect(x.expandDims(1).squeeze(1).shape).toEqual([2, 3]);
      expect(counting([1, 2, 1]).squeeze().shape).toEqual([2]);
      expect(() => x.squeeze(0)).toThrow(ShapeError);
    });
  });

  describe('permute', () => {
    it('moves axes as the definition says, for any shape, order and type', () => {
      const cases = shapes.chain((shape) =>
        fc.tuple(fc.constant(shape), fc.shuffledSubarray([...shape.keys()], { minLength: shape.length })),
      );
      fc.assert(
        fc.property(cases, fc.constantFrom('int32', 'float64', 'bool', 'bfloat16'), ([shape, axes], dtype) => {
          const x = counting(shape).to({ dtype: dtype as library.DType });
          const flat = values(x);
          const y = x.permute(axes);
          const shapeOut = axes.map((axis) => shape[axis]!);
          expect(y.shape).toEqual(shapeOut);
          expect(values(y)).toEqual(
            build(shapeOut, (index) => {
              const from = new Array<number>(axes.length);
              for (const [i, axis] of axes.entries()) from[axis] = index[i]!;
              return flat[flatten(from, shape)]!;
            }),
          );
        }),
        { numRuns: 300 },
      );
    });

    it.each([
      [
        [300, 200],
        [1, 0],
      ],
      [
        [3, 65, 130],
        [0, 2, 1],
      ],
      [
        [4, 70, 3, 64],
        [0, 2, 1, 3],
      ],
      [
        [2, 33, 4, 40],
        [3, 1, 0, 2],
      ],
    ])('moves large %j by %j, on several threads', (shape, axes) => {
      const back = new Array<number>(axes.length);
      for (const [i, axis] of axes.entries()) back[axis] = i;
      const x = counting(shape);
      const y = x.permute(axes);
      const data = y.dataSync();
      const out = y.shape;
      for (let k = 0; k < 200; k++) {
        const index = out.map((size, i) => (k * 7919 + i * 104729) % size);
        const from = back.map((i) => index[i]!);
        expect(data[flatten(index, out)]).toBe(flatten(from, shape));
      }
      expect(values(y.permute(back))).toEqual(values(x));
    });

    // Images to patches [B, tokens, C p p] and back from [B, tokens, p p C], as the transformers do.
    it.each([
      [3, 4, 6, 8, 2],
      [2, 3, 5, 7, 1],
      [1, 1, 9, 15, 3],
      [2, 5, 10, 15, 5],
      [3, 2, 16, 24, 8],
    ])('takes images [%i, %i, %i, %i] apart into patches of %i, and puts them together', (...sizes) => {
      const [batch, channels, height, width, p] = sizes as [number, number, number, number, number];
      const [down, across] = [height / p, width / p];
      for (const dtype of ['int32', 'float64', 'bfloat16'] as const) {
        const images = counting([batch, channels, height, width]).to({ dtype });
        const flat = values(images);
        const split = images.reshape([batch, channels, down, p, across, p]).permute([0, 2, 4, 1, 3, 5]);
        const patches = split.reshape([batch, down * across, -1]);
        expect(values(patches)).toEqual(
          build([batch, down, across, channels, p, p], ([b, i, j, c, y, x]) => {
            const from = [b!, c!, i! * p + y!, j! * p + x!];
            return flat[flatten(from, [batch, channels, height, width])]!;
          }),
        );
        const channelsLast = split.permute([0, 1, 2, 4, 5, 3]);
        expect(values(channelsLast.permute([0, 5, 1, 3, 2, 4]).reshape(images.shape))).toEqual(flat);
      }
    });

    it('differentiates, and refuses what is not an order of the axes', () => {
      checkOp((x) => fm.permute(x, [2, 0, 1]), [sample([2, 3, 4], 1)]);
      checkOp((x) => fm.transpose(x), [sample([2, 9, 11], 1)]);
      expect(counting([2, 3, 4]).transpose(0, -1).shape).toEqual([4, 3, 2]);
      expect(() => fm.permute(counting([2, 3]), [0, 0])).toThrow('permute: axes must be distinct');
      expect(() => fm.permute(counting([2, 3]), [0])).toThrow(ShapeError);
      expect(() => fm.permute(counting([2, 3]), [0, 2])).toThrow('got 2');
    });
  });

  describe('slice', () => {
    it('agrees with the definition for any positions and steps', () => {
      const cases = shapes.chain((shape) =>
        fc.tuple(
          fc.constant(shape),
          fc.tuple(
            ...shape.map((size) =>
              fc.tuple(
                fc.integer({ min: -size - 2, max: size + 2 }),
                fc.option(fc.integer({ min: -size - 2, max: size + 2 })),
                fc.integer({ min: 1, max: 4 }),
              ),
            ),
          ),
        ),
      );
      fc.assert(
        fc.property(cases, ([shape, ranges]) => {
          const x = counting(shape);
          const y = x.slice(
            ranges.map(([begin]) => begin),
            ranges.map(([, end]) => end),
            ranges.map(([, , step]) => step),
          );
          const picked = ranges.map(([begin, end, step], axis) =>
            [...new Array(shape[axis]).keys()].slice(begin, end ?? undefined).filter((_, i) => i % step === 0),
          );
          expect(y.shape).toEqual(picked.map((list) => list.length));
          expect(values(y)).toEqual(
            build(y.shape, (index) =>
              flatten(
                index.map((i, axis) => picked[axis]![i]!),
                shape,
              ),
            ),
          );
        }),
        { numRuns: 300 },
      );
    });

    it('differentiates, with steps and from the end', () => {
      checkOp((x) => fm.slice(x, [1, -3], [null, -1]), [sample([4, 5], 1)]);
      checkOp((x) => fm.slice(x, [1], [], [2, 3]), [sample([7, 8], 1)]);
      checkOp((x) => fm.slice(x, [-100]), [sample([3], 1)]);
      expect(() => fm.slice(counting([3]), [0], [3], [0])).toThrow('slice: step must be at least 1, got 0');
      expect(() => fm.slice(counting([3]), [0, 0])).toThrow(ArgumentError);
    });
  });

  describe('concat, stack and split', () => {
    it('put together and take apart', () => {
      const [a, b] = [counting([2, 3]), counting([2, 1])];
      expect(values(fm.concat([a, b], 1))).toEqual([0, 1, 2, 0, 3, 4, 5, 1]);
      expect(values(fm.stack([a, a], -1))).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
      expect(fm.stack([a, a, a], 1).shape).toEqual([2, 3, 3]);
      const parts = fm.split(counting([2, 6]), [1, 3, 2], 1);
      expect(parts.map((part) => part.shape)).toEqual([
        [2, 1],
        [2, 3],
        [2, 2],
      ]);
      expect(values(fm.concat(parts, 1))).toEqual(values(counting([2, 6])));
      expect(fm.split(counting([6]), 3).map(values)).toEqual([
        [0, 1],
        [2, 3],
        [4, 5],
      ]);
    });

    it('take and give parts of nothing, and the whole', () => {
      const x = counting([2, 3]);
      expect(fm.split(x, [0, 3, 0], -1).map((part) => part.shape)).toEqual([
        [2, 0],
        [2, 3],
        [2, 0],
      ]);
      expect(fm.split(x, [0, 3, 0], -1).map(values)).toEqual([[], values(x), []]);
      expect(fm.split(x, 1, 0).map(values)).toEqual([values(x)]);
      expect(fm.split(counting([0, 2]), [0, 0]).map((part) => part.shape)).toEqual([
        [0, 2],
        [0, 2],
      ]);
    });

    it('differentiate', () => {
      checkOp((a, b, c) => fm.concat([a, b, c], -1), [sample([3, 2], 1), sample([3, 5], 2), sample([3, 1], 3)]);
      checkOp((a, b) => fm.stack([a, b], 1), [sample([3, 4], 1), sample([3, 4], 2)]);
      checkOp((x) => fm.split(x, [2, 1, 4], 1), [sample([3, 7], 1)]);
      checkOp((x) => fm.mul(...(fm.split(x, 2, 0) as [Tensor, Tensor])), [sample([6, 2], 1)]);
      // One input moves and the other does not; one part is used and the others are not.
      checkOp((x) => fm.concat([x, fm.onesLike(x)]), [sample([3, 2], 1)], { dtypes: ['float64'] });
      checkOp((x) => fm.split(x, 3, 0)[1]!, [sample([6, 2], 1)]);
    });

    it('refuse what does not fit', () => {
      expect(() => fm.concat([])).toThrow('concat: tensors must hold at least one tensor');
      expect(() => fm.concat([counting([2, 3]), counting([3, 3])], 1)).toThrow(ShapeError);
      expect(() => fm.concat([fm.ones([2]), counting([2])])).toThrow('concat: tensors must be float32, got int32');
      expect(() => fm.split(counting([5]), 2)).toThrow('split: sizes must divide the axis of 5, got 2 parts');
      expect(() => fm.split(counting([5]), [2, 2])).toThrow(ArgumentError);
    });
  });

  describe('pad, broadcastTo, flip and copy', () => {
    it('give what they say, and differentiate', () => {
      expect(values(fm.pad(counting([1, 2]), [[1, 0], [0, 2]], 9))).toEqual([9, 9, 9, 9, 0, 1, 9, 9]); // biome-ignore format: rows
      expect(values(fm.broadcastTo(counting([2, 1]), [2, 2, 3]))).toEqual([0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]);
      expect(values(fm.flip(counting([2, 3]), 1))).toEqual([2, 1, 0, 5, 4, 3]);
      expect(values(fm.flip(counting([2, 3]), [0, -1]))).toEqual([5, 4, 3, 2, 1, 0]);
      expect(values(fm.copy(counting([2, 3])))).toEqual([0, 1, 2, 3, 4, 5]);
      checkOp((x) => fm.pad(x, [[1, 2], [0, 3]], 0.5), [sample([3, 4], 1)]); // biome-ignore format: rows
      checkOp((x) => fm.flip(x, [0, 2]), [sample([2, 3, 4], 1)]);
      checkOp((x) => fm.copy(x), [sample([5], 1)]);
      checkOp((x) => fm.broadcastTo(x, [4, 3, 5]), [sample([3, 1], 1)]);
    });

    it('refuse what does not fit', () => {
      expect(() => fm.pad(counting([2]), [[-1, 0]])).toThrow('pad: before and after must be sizes of at least 0');
      expect(() => fm.pad(counting([2]), [])).toThrow(ShapeError);
      expect(() => fm.broadcastTo(counting([2]), [3])).toThrow('broadcastTo: x must broadcast to [3], got shape [2]');
      expect(() => fm.broadcastTo(counting([2, 2]), [2])).toThrow(ShapeError);
      expect(() => fm.flip(counting([2]), 1)).toThrow(ShapeError);
    });
  });
});
