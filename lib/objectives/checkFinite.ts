// A guard inside the stream: a NaN is never averaged away, and never reaches the parameters.
import { type Apply, defineOp } from '../autograd/op';
import { native } from '../native';
import { mul } from '../ops/elementwise';
import type { Tensor } from '../tensor';

const checkFiniteOp: Apply<string> = defineOp<string>('checkFinite', {
  forward: ([x], what) => native.checkFinite(x!, what),
  // Passes through the checked output, so that where the check failed the gradients fail with it.
  vjp: ([g], { outputs: [y] }) => [mul(g!, mul(y!, 0).add(1))],
  jvp: ([x], [tx], what) => [checkFiniteOp([x!], what)[0]!, tx!],
  saves: 'outputs',
});

/**
 * The same values. Where a row of x [B, ...] has a NaN or an infinity, reading the result, or anything computed from it
 * or from a gradient through it, throws `NumericalError` naming `what` and the row; an optimiser's step made with such a
 * gradient leaves the parameters as they were.
 */
export function checkFinite(x: Tensor, what: string): Tensor {
  return checkFiniteOp([x], what)[0]!;
}
