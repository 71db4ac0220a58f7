// Learning rates as functions of the step, which counts from 0.

export interface CosineOptions {
  /** Highest rate. */
  lr: number;
  /** Steps in all. */
  steps: number;
  /** Steps of linear warm-up from 0. Default 0. */
  warmup?: number;
  /** The last rate, as a share of the highest. Default 0. */
  final?: number;
}

/** Linear warm-up, then half a cosine from `lr` down to `final · lr`. */
export function cosineSchedule({ lr, steps, warmup = 0, final = 0 }: CosineOptions): (step: number) => number {
  return (step) => {
    if (step < warmup) return (lr * (step + 1)) / warmup;
    const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
    return lr * (final + (1 - final) * 0.5 * (1 + Math.cos(Math.PI * progress)));
  };
}
