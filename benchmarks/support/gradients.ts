// A function's value and the gradients behind it, as one run that keeps nothing.
import { type Tensor, vjp } from '../../lib';

type Many = readonly Tensor[];

/** The gradients by all inputs. What the pullback held is free for the next run, not when a collector comes to it. */
export function gradientsBehind(f: (...inputs: Tensor[]) => Many, inputs: Many, cotangents: Many): Tensor[] {
  const [, pullback] = vjp(f as (...inputs: Tensor[]) => Tensor[], [...inputs]);
  try {
    return pullback([...cotangents]) as Tensor[];
  } finally {
    pullback.dispose();
  }
}
