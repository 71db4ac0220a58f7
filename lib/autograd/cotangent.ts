// Sums of cotangents: what reverse mode does where a value was used more than once.
import { add } from '../ops/elementwise';
import type { Tensor } from '../tensor';

export function addCotangents(a: Tensor, b: Tensor): Tensor {
  return add(a, b);
}
