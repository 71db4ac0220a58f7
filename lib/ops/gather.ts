// Gathering by index. An index out of range is an ArgumentError where the result is read.
import { type Apply, defineOp } from '../autograd/op';
import type { DType } from '../dtype';
import { native } from '../native';
import { Tensor } from '../tensor';

const takeOp: Apply<number> = defineOp('take', {
  forward: ([x, indices], axis) => native.take(x!, indices!, axis),
  vjp: ([g], { inputs: [x, indices], attributes: axis }) => [takeVjp(g!, indices!, x!.shape, axis), null],
  jvp: ([x, indices], [tx], axis) => [take(x!, indices!, axis), take(tx!, indices!, axis)],
});

/** The entries of x at `indices` along `axis`. x [a, n, b], indices int32 [...] of values in [0, n) -> [a, ..., b] */
export function take(x: Tensor, indices: Tensor, axis = 0): Tensor {
  return takeOp([x, indices], axis)[0]!;
}

const takeVjpOp: Apply<{ shape: readonly number[]; axis: number }> = defineOp('takeVjp', {
  forward: ([g, indices], { shape, axis }) => native.takeVjp(g!, indices!, shape, axis),
  vjp: ([h], { inputs: [, indices], attributes: { axis } }) => [take(h!, indices!, axis), null],
  jvp: ([g, indices], [tg], { shape, axis }) => [
    takeVjp(g!, indices!, shape, axis),
    takeVjp(tg!, indices!, shape, axis),
  ],
});

/** The transpose of {@link take}: g added up where it took from. g [a, ..., b], indices [...] -> [a, n, b] */
export function takeVjp(g: Tensor, indices: Tensor, shape: readonly number[], axis = 0): Tensor {
  return takeVjpOp([g, indices], { shape, axis })[0]!;
}

/** The rows of `table` at `ids`. table [n, d], ids int32 [...] of values in [0, n) -> [..., d] */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  return take(table, ids, 0);
}

const oneHotOp: Apply<{ depth: number; dtype: DType }> = defineOp('oneHot', {
  forward: ([indices], { depth, dtype }) => native.oneHot(indices!, depth, dtype),
  constant: true,
});

/** 1 at each index, 0 elsewhere. indices int32 [...] of values in [0, depth) -> [..., depth] */
export function oneHot(indices: Tensor, depth: number, { dtype = 'float32' }: { dtype?: DType } = {}): Tensor {
  return oneHotOp([indices], { depth, dtype })[0]!;
}

declare module '../tensor' {
  interface Tensor {
    take(indices: Tensor, axis?: number): Tensor;
  }
}

Tensor.prototype.take = function (indices, axis) {
  return take(this, indices, axis);
};
