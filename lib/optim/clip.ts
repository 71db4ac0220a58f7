// Norms over all gradients, without waiting for the device.
import { native } from '../native';
import { Tensor } from '../tensor';

/** The Euclidean norm of all elements of all tensors. -> [] */
export function globalNorm(tensors: Iterable<Tensor>): Tensor {
  return new Tensor(native.globalNorm([...tensors].map((x) => x._primal()._handle)));
}

/**
 * What to multiply gradients by so that their norm together is at most `maxNorm`; pass it to `AdamW.update` as
 * `gradScale`. A NaN norm stays NaN.
 */
export function clipByGlobalNorm(grads: Iterable<Tensor>, maxNorm: number): { norm: Tensor; scale: Tensor } {
  const norm = globalNorm(grads);
  return { norm, scale: new Tensor(native.clipScale(norm._handle, maxNorm)) };
}
