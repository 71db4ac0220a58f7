// AdamW over named parameters, updated in place by one kernel.
import { native } from '../native';
import type { Tensor } from '../tensor';
import { MomentOptimizer, type MomentOptions, type MomentStep } from './moments';

export interface AdamWOptions extends MomentOptions {
  /** Decoupled weight decay. Default 0. */
  weightDecay?: number;
}

/**
 * AdamW (Loshchilov and Hutter, arXiv 1711.05101). Moments are float32 (float64 for float64 parameters); 16-bit
 * parameters get float32 masters, on which the steps are made.
 */
export class AdamW extends MomentOptimizer {
  constructor(params: ReadonlyMap<string, Tensor>, options: AdamWOptions = {}) {
    super('AdamW', params, options);
  }

  protected launch({ params, grads, m, v, masters, gradScale, lr, step }: MomentStep): void {
    const [beta1, beta2] = this.betas;
    native.adamwStep(params, grads, m, v, masters, gradScale, lr, beta1, beta2, this.eps, this.weightDecay, step);
  }
}
