// How far a result may be from float64, as relative L2 error, by dtype: one table for all ops. Half of a unit in the
// last place of the dtype, times room for the sums behind a value.
import type { DType } from '../../lib';

export const tolerances: Readonly<Record<Exclude<DType, 'int32' | 'bool'>, number>> = {
  float64: 1e-12,
  float32: 2e-6,
  bfloat16: 8e-3,
  float16: 1e-3,
};

export type FloatingDType = keyof typeof tolerances;
export const floatingDTypes: readonly FloatingDType[] = ['float64', 'float32', 'bfloat16', 'float16'];
