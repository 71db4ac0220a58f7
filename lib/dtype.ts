// Element types and their names.

/** The element types a tensor may have. 16-bit floats are storage: arithmetic on them is done in float32. */
export type DType = 'float32' | 'float64' | 'bfloat16' | 'float16' | 'int32' | 'bool';

/** What `data()` gives: 16-bit floats come as float32, bool as 0 and 1. */
export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array;

/** Bytes of one element. */
export const itemSize: Readonly<Record<DType, number>> = {
  float32: 4,
  float64: 8,
  bfloat16: 2,
  float16: 2,
  int32: 4,
  bool: 1,
};

export function isFloating(dtype: DType): boolean {
  return dtype !== 'int32' && dtype !== 'bool';
}
