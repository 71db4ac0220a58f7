// Tensors made from JavaScript values and from nothing.
import type { DType } from './dtype';
import { ArgumentError, DTypeError, ShapeError } from './errors';
import { native } from './native';
import { Tensor } from './tensor';

export interface TensorOptions {
  /** Default: 'float32', or what a typed array or array of booleans says. */
  dtype?: DType;
  /** Default: 'cpu'. */
  device?: string;
}

/** Numbers or booleans, nested to any depth. */
export type NestedArray = number | boolean | readonly NestedArray[];

function measure(data: NestedArray): number[] {
  const shape: number[] = [];
  for (let level: NestedArray = data; Array.isArray(level); level = (level as readonly NestedArray[])[0]!) {
    shape.push(level.length);
    if (level.length === 0) break;
  }
  return shape;
}

function flatten(data: NestedArray, shape: readonly number[], axis: number, out: (number | boolean)[]): void {
  if (axis === shape.length) {
    if (typeof data !== 'number' && typeof data !== 'boolean') {
      throw new ArgumentError('tensor', `data must hold numbers or booleans, got ${typeof data}`);
    }
    out.push(data);
    return;
  }
  if (!Array.isArray(data) || data.length !== shape[axis]) {
    throw new ShapeError('tensor', `data must be a regular nesting of shape [${shape.join(', ')}]`);
  }
  for (const item of data) flatten(item, shape, axis + 1, out);
}

const arrays = { float32: Float32Array, float64: Float64Array, int32: Int32Array, bool: Uint8Array } as const;

function convert(values: ArrayLike<number | boolean>, dtype: keyof typeof arrays): ArrayBufferView {
  if (values instanceof arrays[dtype] && dtype !== 'bool') return values as unknown as ArrayBufferView;
  // The engine converts numbers of one typed array to those of another; other numbers are looked at one by one.
  const numbers = ArrayBuffer.isView(values) && typeof values[0] === 'number';
  if (numbers && (dtype === 'float32' || dtype === 'float64')) return new arrays[dtype](values as Float64Array);
  const out = new arrays[dtype](values.length);
  for (let i = 0; i < values.length; i++) {
    const value = Number(values[i]);
    if (dtype === 'int32' && !(Number.isInteger(value) && value >= -(2 ** 31) && value < 2 ** 31)) {
      throw new DTypeError('tensor', `data must hold 32-bit integers for dtype int32, got ${value} at index ${i}`);
    }
    out[i] = dtype === 'bool' ? Number(value !== 0) : value;
  }
  return out;
}

function inferDType(data: unknown, flat: ArrayLike<unknown>): DType {
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Int32Array) return 'int32';
  return flat.length > 0 && typeof flat[0] === 'boolean' ? 'bool' : 'float32';
}

/**
 * A tensor of the given values, which are copied.
 *
 * @param data a number or boolean, a nesting of arrays, or a typed array (row-major)
 * @param options `shape` (default: that of the nesting, or one axis), `dtype`, `device`
 * @throws ShapeError if the nesting is irregular or `shape` has another number of elements
 */
export function tensor(
  data: NestedArray | ArrayLike<number>,
  options: TensorOptions & { shape?: readonly number[] } = {},
): Tensor {
  const { device = 'cpu' } = options;
  const isView = ArrayBuffer.isView(data) && !(data instanceof DataView);
  let flat: ArrayLike<number | boolean>;
  let natural: number[];
  if (isView) {
    flat = data as unknown as ArrayLike<number>;
    natural = [flat.length];
  } else {
    if (typeof data !== 'number' && typeof data !== 'boolean' && !Array.isArray(data)) {
      throw new ArgumentError(
        'tensor',
        `data must be a number, a nesting of arrays or a typed array, got ${typeof data}`,
      );
    }
    natural = measure(data as NestedArray);
    const values: (number | boolean)[] = [];
    flatten(data as NestedArray, natural, 0, values);
    flat = values;
  }
  const dtype = options.dtype ?? inferDType(data, flat);
  const shape = options.shape ?? natural;
  const bits16 = dtype === 'bfloat16' || dtype === 'float16';
  const storage = bits16 ? 'float32' : dtype;
  if (!(storage in arrays)) throw new DTypeError('tensor', `dtype must be a dtype, got '${String(dtype)}'`);
  const handle = native.fromBytes(convert(flat, storage as keyof typeof arrays), shape, storage, device);
  if (!bits16) return new Tensor(handle);
  try {
    return new Tensor(native.cast(handle, dtype));
  } finally {
    native.dispose(handle);
  }
}

/** Every element `value`. */
export function full(shape: readonly number[], value: number, options: TensorOptions = {}): Tensor {
  return new Tensor(native.full(options.device ?? 'cpu', shape, options.dtype ?? 'float32', value));
}

export function zeros(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return full(shape, 0, options);
}

export function ones(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return full(shape, 1, options);
}

/** Zeros of the shape, dtype and device of `x`; a constant. */
export function zerosLike(x: Tensor): Tensor {
  return full(x.shape, 0, { dtype: x.dtype, device: x.device });
}

/** Ones of the shape, dtype and device of `x`; a constant. */
export function onesLike(x: Tensor): Tensor {
  return full(x.shape, 1, { dtype: x.dtype, device: x.device });
}

/** start, start + step, ... below `stop`; `arange(n)` is 0, 1, ... n - 1. Default dtype: int32 where all are integers. -> [n] */
export function arange(start: number, stop?: number, step = 1, options: TensorOptions = {}): Tensor {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const whole = Number.isInteger(from) && Number.isInteger(to) && Number.isInteger(step);
  const dtype = options.dtype ?? (whole ? 'int32' : 'float32');
  return new Tensor(native.arange(options.device ?? 'cpu', from, to, step, dtype));
}

/** Ones on the diagonal, zeros elsewhere. -> [rows, columns] */
export function eye(rows: number, columns = rows, options: TensorOptions = {}): Tensor {
  return new Tensor(native.eye(options.device ?? 'cpu', rows, columns, options.dtype ?? 'float32'));
}
