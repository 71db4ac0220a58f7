// What the command line may ask of a family's benchmarks on the CPU.
import type { DType } from '../../lib';
import type { PresetName } from '../presets';

export const dtypes = ['float32', 'float64', 'bfloat16', 'float16'] as const satisfies readonly DType[];

export interface Setting {
  dtype: (typeof dtypes)[number];
  /** Absent: the family's own sizes. */
  shapes?: PresetName;
}

/** What a family makes of a setting. */
export interface Takes {
  /** All, float32 alone, or these. */
  dtype: boolean | readonly Setting['dtype'][];
  shapes: readonly PresetName[];
}
