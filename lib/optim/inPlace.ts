// The few operations that change a tensor: for optimisers, averages and loading. No gradient flows through them.
import { native } from '../native';
import type { Tensor } from '../tensor';

/**
 * target ← source, of the same shape, cast to the target's dtype. Other handles of the target's storage see it. Like all
 * operations in place it does nothing where the source failed, nor, on a GPU, after a fault that no read has told of yet.
 */
export function copyInto(target: Tensor, source: Tensor): void {
  native.copyInto(target._primal()._handle, source._primal()._handle);
}
