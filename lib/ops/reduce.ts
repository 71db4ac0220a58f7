// Reductions over one, several or (by default) all axes. Sums of floats are kept in float64 inside, and do not depend on
// the number of threads.
import { type Apply, defineOp } from '../autograd/op';
import { native } from '../native';
import { Tensor } from '../tensor';
import { equal, where } from './compare';
import { div } from './elementwise';
import { broadcastTo, reshape } from './shape';

/** One axis or several; negative ones count from the end. Absent: all. */
export type Axes = number | readonly number[] | null | undefined;

export interface ReduceOptions {
  /** Keep the reduced axes, with size 1. Default false. */
  keepDims?: boolean;
}

interface Attributes {
  axes: readonly number[];
  keepDims: boolean;
}

function attributesOf(x: Tensor, axes: Axes, options: ReduceOptions = {}): Attributes {
  const list = typeof axes === 'number' ? [axes] : (axes ?? x.shape.map((_, axis) => axis));
  return { axes: list, keepDims: options.keepDims ?? false };
}

/** The shape with the reduced axes kept, with size 1. */
function keptShape(shape: readonly number[], axes: readonly number[]): number[] {
  const kept = [...shape];
  for (const axis of axes) kept[axis < 0 ? axis + shape.length : axis] = 1;
  return kept;
}

function spread(g: Tensor, shape: readonly number[], axes: readonly number[]): Tensor {
  return broadcastTo(reshape(g, keptShape(shape, axes)), shape);
}

function countOf(shape: readonly number[], axes: readonly number[]): number {
  return axes.reduce((count, axis) => count * shape[axis < 0 ? axis + shape.length : axis]!, 1);
}

const sumOp: Apply<Attributes> = defineOp('sum', {
  forward: ([x], { axes, keepDims }) => native.sum(x!, axes, keepDims),
  vjp: ([g], { inputs: [x], attributes: { axes } }) => [spread(g!, x!.shape, axes)],
  jvp: ([x], [tx], attributes) => [sumOp([x!], attributes)[0]!, sumOp([tx!], attributes)[0]!],
  saves: 'none',
});

/** The sum over `axes`. Of int32 it is int32, of bool the count of what is true, as int32. x [...] -> [kept axes] */
export function sum(x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor {
  return sumOp([x], attributesOf(x, axes, options))[0]!;
}

const meanOp: Apply<Attributes> = defineOp('mean', {
  forward: ([x], { axes, keepDims }) => native.mean(x!, axes, keepDims),
  vjp: ([g], { inputs: [x], attributes: { axes } }) => [spread(div(g!, countOf(x!.shape, axes)), x!.shape, axes)],
  jvp: ([x], [tx], attributes) => [meanOp([x!], attributes)[0]!, meanOp([tx!], attributes)[0]!],
  saves: 'none',
});

/** The mean over `axes`. x [...] -> [kept axes] */
export function mean(x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor {
  return meanOp([x], attributesOf(x, axes, options))[0]!;
}

/** max and min: the derivative is shared evenly among equal extremes. */
function extreme(name: 'max' | 'min') {
  const apply: Apply<Attributes> = defineOp(name, {
    forward: ([x], { axes, keepDims }) => native[name](x!, axes, keepDims),
    vjp: ([g], { inputs: [x], outputs: [y], attributes: { axes } }) => {
      const chosen = equal(x!, reshape(y!, keptShape(x!.shape, axes)));
      const count = where(chosen, onesOf(x!), 0).sum(axes, { keepDims: true });
      return [where(chosen, div(reshape(g!, count.shape), count), 0)];
    },
    jvp: ([x], [tx], attributes) => {
      const y = apply([x!], attributes)[0]!;
      const chosen = equal(x!, reshape(y, keptShape(x!.shape, attributes.axes)));
      const count = where(chosen, onesOf(x!), 0).sum(attributes.axes, { keepDims: attributes.keepDims });
      return [y, div(sumOp([where(chosen, tx!, 0)], attributes)[0]!, count)];
    },
    saves: 'both',
  });
  return (x: Tensor, axes?: Axes, options?: ReduceOptions) => apply([x], attributesOf(x, axes, options))[0]!;
}

// A constant, whatever x is part of.
function onesOf(x: Tensor): Tensor {
  return new Tensor(native.full(x.device, [], x.dtype, 1));
}

/** The largest over `axes`, NaN if there is one; its derivative is shared among equals. x [...] -> [kept axes] */
export const max = extreme('max');
/** The smallest over `axes`, NaN if there is one; its derivative is shared among equals. x [...] -> [kept axes] */
export const min = extreme('min');

const anyOp: Apply<Attributes> = defineOp('any', {
  forward: ([x], { axes, keepDims }) => native.any(x!, axes, keepDims),
  constant: true,
});
const allOp: Apply<Attributes> = defineOp('all', {
  forward: ([x], { axes, keepDims }) => native.all(x!, axes, keepDims),
  constant: true,
});

/** Whether something over `axes` is true; false of nothing. x bool [...] -> bool [kept axes] */
export function any(x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor {
  return anyOp([x], attributesOf(x, axes, options))[0]!;
}

/** Whether everything over `axes` is true; true of nothing. x bool [...] -> bool [kept axes] */
export function all(x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor {
  return allOp([x], attributesOf(x, axes, options))[0]!;
}

const argmaxOp: Apply<{ axis: number; keepDims: boolean }> = defineOp('argmax', {
  forward: ([x], { axis, keepDims }) => native.argmax(x!, axis, keepDims),
  constant: true,
});
const argminOp: Apply<{ axis: number; keepDims: boolean }> = defineOp('argmin', {
  forward: ([x], { axis, keepDims }) => native.argmin(x!, axis, keepDims),
  constant: true,
});

/** Where the largest along `axis` is: the first of equals, the first NaN above all. x [..., n, ...] -> int32 [...] */
export function argmax(x: Tensor, axis = -1, { keepDims = false }: ReduceOptions = {}): Tensor {
  return argmaxOp([x], { axis, keepDims })[0]!;
}

/** Where the smallest along `axis` is: the first of equals, the first NaN above all. x [..., n, ...] -> int32 [...] */
export function argmin(x: Tensor, axis = -1, { keepDims = false }: ReduceOptions = {}): Tensor {
  return argminOp([x], { axis, keepDims })[0]!;
}

const sumToOp: Apply<readonly number[]> = defineOp('sumTo', {
  forward: ([x], shape) => native.sumTo(x!, shape),
  vjp: ([g], { inputs: [x] }) => [broadcastTo(g!, x!.shape)],
  jvp: ([x], [tx], shape) => [sumTo(x!, shape), sumTo(tx!, shape)],
  saves: 'none',
});

/** The transpose of broadcasting: the sum over the axes along which `shape` was broadcast to that of x, in one pass. */
export function sumTo(x: Tensor, shape: readonly number[]): Tensor {
  return sumToOp([x], shape)[0]!;
}

declare module '../tensor' {
  interface Tensor {
    sum(axes?: Axes, options?: ReduceOptions): Tensor;
    mean(axes?: Axes, options?: ReduceOptions): Tensor;
    max(axes?: Axes, options?: ReduceOptions): Tensor;
    min(axes?: Axes, options?: ReduceOptions): Tensor;
    any(axes?: Axes, options?: ReduceOptions): Tensor;
    all(axes?: Axes, options?: ReduceOptions): Tensor;
    argmax(axis?: number, options?: ReduceOptions): Tensor;
    argmin(axis?: number, options?: ReduceOptions): Tensor;
  }
}

const overAxes = { sum, mean, max, min, any, all };
for (const [name, apply] of Object.entries(overAxes)) {
  Tensor.prototype[name as keyof typeof overAxes] = function (this: Tensor, axes?: Axes, options?: ReduceOptions) {
    return apply(this, axes, options);
  };
}
Tensor.prototype.argmax = function (axis, options) {
  return argmax(this, axis, options);
};
Tensor.prototype.argmin = function (axis, options) {
  return argmin(this, axis, options);
};
