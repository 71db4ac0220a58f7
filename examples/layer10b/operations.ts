// How much arithmetic the model asks for, by which rates are stated: a multiplication and an addition are two operations.
// Matrix products and attention count; normalisations, activations and the optimiser do not, and neither does what is
// computed again in the backward pass (a checkpointed layer, attention's scores).
import type { Model } from './options';

export interface Operations {
  /** Value and tangent. */
  forward: number;
  /** The gradients of both. */
  backward: number;
}

/** Operations of one step over `batch` sequences of `tokens` tokens. */
export function countOperations({ width, mlpRatio }: Model, batch: number, tokens: number): Operations {
  const hidden = Math.round(width * mlpRatio);
  // Weights that meet every token (q, k, v, proj, MLP), and those that meet every sample (six modulations).
  const perToken = 4 * width ** 2 + 2 * width * hidden;
  const perSample = 6 * width ** 2;
  const products = batch * (tokens * perToken + perSample);
  const pairs = batch * tokens ** 2 * width;
  return {
    // y and ty are a product each. Scores and output take two, their tangents four.
    forward: 4 * products + 12 * pairs,
    // The gradients of x and tx take a product each, that of the weight two; each of attention's products gives two.
    backward: 8 * products + 24 * pairs,
  };
}
