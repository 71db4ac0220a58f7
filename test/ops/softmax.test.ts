// Softmax over the last axis, on every device: widths that threads share in every way, infinities, NaN, fixed bits.
import { relativeError, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { floatingDTypes, tolerances } from '../support/tolerances';

describeOnDevices('softmax', (device) => {
  const { checkOp, jvp, softmax, tensor, zeros } = on(device);
  const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

  const reference = (width: number) => (x: Float64Array) => {
    const out = new Float64Array(x.length);
    for (let row = 0; row < x.length; row += width) {
      let top = -infinity;
      for (let i = 0; i < width; i++) top = Math.max(top, x[row + i]!);
      let sum = 0;
      for (let i = 0; i < width; i++) sum += Math.exp(x[row + i]! - top);
      for (let i = 0; i < width; i++) out[row + i] = Math.exp(x[row + i]! - top) / sum;
    }
    return out;
  };

  it.each([1, 5, 16, 33])('is a distribution with the right derivatives over %i values', (width) => {
    checkOp((x) => softmax(x!), [sample([3, width], width)], { reference: reference(width) });
  });

  it.each([
    [1000, 1],
    [301, 2],
    [257, 7],
    [70, 72],
    [19, 100],
    [3, 257],
    [9, 1152],
    [3, 2048],
    [2, 4096],
    [1, 4097],
    [3, 8192],
    [2, 8200],
    [1, 40000],
    [1, 70001],
  ])('is right in every dtype over %i rows of %i values', (rows, width) => {
    checkOp((x) => softmax(x!), [sample([rows, width], width)], {
      reference: reference(width),
      differentiable: false,
    });
  });

  it('is right where there are many long rows', () => {
    const [rows, width] = [600, 4099];
    const { values } = sample([width], 1);
    const x = Float32Array.from({ length: rows * width }, (_, i) => (values[i % width]! * (1 + (i % 7))) as number);
    const got = softmax(tensor(x, { shape: [rows, width] })).dataSync();
    expect(relativeError(got, reference(width)(Float64Array.from(x)))).toBeLessThan(tolerances.float32);
  });

  it('handles no rows, rows of nothing, and one row without a batch', () => {
    expect(softmax(zeros([0, 8])).shape).toEqual([0, 8]);
    expect(softmax(zeros([3, 0])).dataSync().length).toBe(0);
    checkOp((x) => softmax(x!), [sample([9], 4)], { reference: reference(9) });
  });

  it('stays finite for large logits and shows a NaN', () => {
    expect([...softmax(tensor([1e30, 0, -1e30])).dataSync()]).toEqual([1, 0, 0]);
    expect([...softmax(tensor([nan, 0])).dataSync()].every(Number.isNaN)).toBe(true);
  });

  // Rows of each way of sharing a row among threads, of parts of rows, whole packets and not.
  describe.each([3, 8, 40, 200, 1152, 9000, 40003])('over %i values', (width) => {
    const row = (at: (i: number) => number) => Array.from({ length: width }, (_, i) => at(i));
    const last = width - 1;
    const masked = Math.floor(width / 2);
    const rows = [
      row(() => -infinity),
      row((i) => (i === last ? nan : i)),
      row((i) => (i === 0 ? nan : -infinity)),
      row((i) => (i === 1 ? infinity : 0)),
      row((i) => (i === last ? infinity : -infinity)),
      row((i) => (i < masked ? -infinity : 1)),
      row((i) => (i === last ? 2 : -infinity)),
      row((i) => (i === 0 ? 2 : -infinity)),
      row(() => -1e4),
    ];
    // -1 for NaN, which equals nothing
    const visible = (data: ArrayLike<number>) => Array.from(data, (v) => (Number.isNaN(v) ? -1 : v));

    it.each(floatingDTypes)('shows infinities and NaN in their own rows alone, in %s', (dtype) => {
      const x = tensor(Float64Array.from(rows.flat()), { shape: [rows.length, width], dtype });
      const got = visible(softmax(x).dataSync());
      const expected = visible(reference(width)(Float64Array.from(x.dataSync())));
      for (let i = 0; i < rows.length; i++) {
        const part = (of: number[]) => of.slice(i * width, (i + 1) * width);
        expect(relativeError(part(got), part(expected))).toBeLessThan(tolerances[dtype]);
      }
    });

    it('has the same bits on every run', () => {
      const values = Float32Array.from(Array.from(sample([5, width], width).values));
      const once = () => softmax(tensor(values, { shape: [5, width] })).dataSync();
      expect(relativeError(once(), once())).toBe(0);
    });
  });

  it('carries a tangent', () => {
    const [, t] = jvp(softmax, [tensor([0, 0])], [tensor([1, 0])]);
    expect([...t.dataSync()]).toEqual([0.25, -0.25]);
  });
});
