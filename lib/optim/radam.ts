// RAdam over named parameters, updated in place by one kernel.
import { native } from '../native';
import type { Tensor } from '../tensor';
import { MomentOptimizer, type MomentOptions, type MomentStep } from './moments';

export interface RAdamOptions extends MomentOptions {
  /** Added to the gradients, or, with `decoupled`, taken off the parameters. Default 0. */
  weightDecay?: number;
  /** Weight decay apart from the moments, as AdamW's. Default false. */
  decoupled?: boolean;
}

/**
 * RAdam (Liu et al., arXiv 1908.03265), as PyTorch has it. While there are too few steps for the second moment's variance
 * (rho ≤ 5: five steps at betas[1] = 0.999) a step is of momentum alone; then the rate is rectified. Moments are float32
 * (float64 for float64 parameters); 16-bit parameters get float32 masters, on which the steps are made.
 */
export class RAdam extends MomentOptimizer {
  private readonly decoupled: boolean;

  constructor(params: ReadonlyMap<string, Tensor>, options: RAdamOptions = {}) {
    super('RAdam', params, options);
    this.decoupled = options.decoupled ?? false;
  }

  protected launch({ params, grads, m, v, masters, gradScale, lr, step }: MomentStep): void {
    const { betas, eps, weightDecay, decoupled } = this;
    native.radamStep(
      params,
      grads,
      m,
      v,
      masters,
      gradScale,
      lr,
      betas[0],
      betas[1],
      eps,
      weightDecay,
      decoupled,
      step,
    );
  }
}
