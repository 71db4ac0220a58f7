// Tensors from JavaScript values and back.
import fc from 'fast-check';
import {
  ArgumentError,
  add,
  DeviceError,
  DeviceUnavailableError,
  DTypeError,
  type FlowmapError,
  ones,
  ShapeError,
  tensor,
  zeros,
} from '../../lib';

describe('tensor', () => {
  it('takes the shape of a nesting, of a typed array, or the one given', () => {
    expect(
      tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]).shape,
    ).toEqual([2, 3]);
    expect(tensor(5).shape).toEqual([]);
    expect(tensor(new Float32Array(6)).shape).toEqual([6]);
    expect(tensor(new Float32Array(6), { shape: [3, 2] }).shape).toEqual([3, 2]);
    expect(tensor([]).shape).toEqual([0]);
  });

  it('takes its dtype from what it is given', () => {
    expect(tensor([1]).dtype).toBe('float32');
    expect(tensor(new Float64Array(1)).dtype).toBe('float64');
    expect(tensor(new Int32Array(1)).dtype).toBe('int32');
    expect(tensor([true, false]).dtype).toBe('bool');
    expect([...tensor([true, false]).dataSync()]).toEqual([1, 0]);
  });

  it('copies: later changes to the array do not show', () => {
    const values = new Float32Array([1, 2]);
    const x = tensor(values);
    values[0] = 9;
    expect(x.dataSync()[0]).toBe(1);
  });

  it('reads back what was written, for every dtype that stores it exactly', async () => {
    await fc.assert(
      fc.asyncProperty(fc.float32Array({ noNaN: false, maxLength: 70 }), async (values) => {
        const x = tensor(values);
        expect(Object.is(JSON.stringify([...(await x.data())]), JSON.stringify([...values]))).toBe(true);
        expect(
          Buffer.from(await x.bytes()).equals(Buffer.from(values.buffer, values.byteOffset, values.byteLength)),
        ).toBe(true);
        x.dispose();
      }),
      { numRuns: 50 },
    );
    const integers = new Int32Array([0, -1, 2 ** 31 - 1, -(2 ** 31)]);
    expect(await tensor(integers).data()).toEqual(integers);
  });

  it('knows its shape, dtype and device, however many there are, and lets nobody change them', () => {
    for (let size = 0; size < 5000; size++) {
      const x = zeros([1, size], { dtype: size % 2 ? 'float32' : 'int32' });
      expect(x.shape).toEqual([1, size]);
      expect(x.dtype).toBe(size % 2 ? 'float32' : 'int32');
      x.dispose();
    }
    const [x, y] = [zeros([2, 3]), ones([2, 3])];
    expect(() => {
      (x.shape as number[])[0] = 5;
    }).toThrow(TypeError);
    expect(y.shape).toEqual([2, 3]);
    expect(y.device).toBe('cpu');
  });

  it('gives the value of one element and refuses more', async () => {
    expect(await tensor(3).item()).toBe(3);
    expect(tensor([[7]]).itemSync()).toBe(7);
    await expect(tensor([1, 2]).item()).rejects.toThrow(ShapeError);
  });

  it.each([
    ['an irregular nesting', () => tensor([[1, 2], [3]] as never), ShapeError, /regular nesting of shape \[2, 2\]/],
    [
      'a shape of another size',
      () => tensor([1, 2, 3], { shape: [2] }),
      ShapeError,
      /8 bytes for shape \[2\] of float32, got 12/,
    ],
    ['text', () => tensor('abc' as never), ArgumentError, /got string/],
    ['a fraction as int32', () => tensor([1.5], { dtype: 'int32' }), DTypeError, /got 1.5 at index 0/],
    ['an unknown dtype', () => tensor([1], { dtype: 'float8' as never }), DTypeError, /float8/],
    ['an unknown device', () => zeros([1], { device: 'tpu' }), DeviceError, /'cpu', 'cuda' or 'cuda:N', got 'tpu'/],
    ['an absent device', () => zeros([1], { device: 'cuda' }), DeviceUnavailableError, /cuda/],
    ['shapes that do not broadcast', () => add(ones([2, 3]), ones([4])), ShapeError, /add: .*\[2, 3\] and \[4\]/],
    [
      'dtypes that differ',
      () => add(ones([2]), ones([2], { dtype: 'float64' })),
      DTypeError,
      /add: b must be float32, got float64/,
    ],
    ['a number in the place of a tensor', () => add(ones([2]), {} as never), ArgumentError, /add: b must be a tensor/],
  ] as [string, () => unknown, typeof FlowmapError, RegExp][])('refuses %s', (_, make, type, message) => {
    expect(make).toThrow(type);
    expect(make).toThrow(message);
    try {
      make();
    } catch (error) {
      expect((error as FlowmapError).code).toMatch(/^ERR_FLOWMAP_/);
      expect((error as FlowmapError).op).toBe((error as FlowmapError).message.split(':')[0]);
    }
  });
});
