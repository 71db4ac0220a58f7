// The few operations that change a tensor: for optimisers, averages and loading. No gradient flows through them.
import { tidy } from '../memory';
import { native } from '../native';
import type { Tensor } from '../tensor';

/**
 * target ← source, of the same shape, cast to the target's dtype and brought to its device. Other handles of the target's storage see it. Like all
 * operations in place it does nothing where the source failed, nor, on a GPU, after a fault that nobody has been told of yet.
 */
export function copyInto(target: Tensor, source: Tensor): void {
  const { device } = target;
  tidy(() => native.copyInto(target._primal()._handle, source._primal().to({ device })._handle));
}
