// Operations that only move elements. Axes and positions may be negative: they count from the end.
import { type Apply, defineOp } from '../autograd/op';
import { full, zerosLike } from '../create';
import { ArgumentError } from '../errors';
import { native } from '../native';
import { Tensor } from '../tensor';
import { sumTo } from './reduce';

const reshapeOp: Apply<readonly number[]> = defineOp('reshape', {
  forward: ([x], shape) => native.reshape(x!, shape),
  vjp: ([g], { inputs: [x] }) => [reshape(g!, x!.shape)],
  jvp: ([x], [tx], shape) => [reshape(x!, shape), reshape(tx!, shape)],
  saves: 'none',
});

/** The same elements in another shape, for free; one size may be -1: what is left. x [...] -> [shape] */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return reshapeOp([x], shape)[0]!;
}

const copyOp: Apply = defineOp('copy', {
  forward: ([x]) => native.copy(x!),
  vjp: ([g]) => [g!],
  jvp: ([x], [tx]) => [copy(x!), tx!],
  saves: 'none',
});

/** The same values in memory of their own. x [...] -> [...] */
export function copy(x: Tensor): Tensor {
  return copyOp([x], undefined)[0]!;
}

/** A new axis of size 1 before `axis` (-1: at the end). x [...] -> [..., 1, ...] */
export function expandDims(x: Tensor, axis: number): Tensor {
  const shape = [...x.shape];
  shape.splice(axis < 0 ? axis + shape.length + 1 : axis, 0, 1);
  return reshape(x, shape);
}

/** Without the axes of size 1, or without the given ones. x [..., 1, ...] -> [...] */
export function squeeze(x: Tensor, axes?: number | readonly number[]): Tensor {
  if (axes === undefined)
    return reshape(
      x,
      x.shape.filter((size) => size !== 1),
    );
  const given = new Set((typeof axes === 'number' ? [axes] : axes).map((axis) => (axis < 0 ? axis + x.rank : axis)));
  return reshape(
    x,
    x.shape.filter((_, axis) => !given.has(axis)),
  );
}

const permuteOp: Apply<readonly number[]> = defineOp('permute', {
  forward: ([x], axes) => native.permute(x!, axes),
  vjp: ([g], { attributes: axes }) => [permute(g!, inverse(axes))],
  jvp: ([x], [tx], axes) => [permute(x!, axes), permute(tx!, axes)],
  saves: 'none',
});

function inverse(axes: readonly number[]): number[] {
  const result = new Array<number>(axes.length);
  for (const [i, axis] of axes.entries()) result[axis < 0 ? axis + axes.length : axis] = i;
  return result;
}

/** Axis i of the result is axis `axes[i]` of x. x [...] -> [...] */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  return permuteOp([x], axes)[0]!;
}

/** Two axes exchanged, by default the last two. x [..., m, n] -> [..., n, m] */
export function transpose(x: Tensor, first = -2, second = -1): Tensor {
  const axes = x.shape.map((_, axis) => axis);
  const at = (axis: number) => (axis < 0 ? axis + axes.length : axis);
  // An axis out of range stays in the list, for permute to refuse.
  [axes[at(first)], axes[at(second)]] = [at(second), at(first)];
  return permute(x, axes);
}

interface SliceAttributes {
  begin: readonly number[];
  end: readonly number[];
  step: readonly number[];
}

const sliceOp: Apply<SliceAttributes> = defineOp('slice', {
  forward: ([x], { begin, end, step }) => native.slice(x!, begin, end, step),
  vjp: ([g], { inputs: [x], attributes }) => [sliceVjpOp([g!], { ...attributes, shape: x!.shape })[0]!],
  jvp: ([x], [tx], attributes) => [sliceOp([x!], attributes)[0]!, sliceOp([tx!], attributes)[0]!],
  saves: 'none',
});

const sliceVjpOp: Apply<SliceAttributes & { shape: readonly number[] }> = defineOp('sliceVjp', {
  forward: ([g], { shape, begin, step }) => native.sliceVjp(g!, shape, begin, step),
  vjp: ([h], { attributes }) => [sliceOp([h!], attributes)[0]!],
  jvp: ([g], [tg], attributes) => [sliceVjpOp([g!], attributes)[0]!, sliceVjpOp([tg!], attributes)[0]!],
  saves: 'none',
});

type Positions = readonly (number | null | undefined)[];

/**
 * Positions `begin`, `begin + step`, ... below `end` of every axis, clipped to it as in NumPy. Entries that are null or
 * missing at the end take the whole axis. x [...] -> [...]
 */
export function slice(x: Tensor, begin: Positions, end: Positions = [], step: Positions = []): Tensor {
  const { shape } = x;
  for (const [name, list] of Object.entries({ begin, end, step })) {
    if (list.length > shape.length) {
      throw new ArgumentError('slice', `${name} must have at most ${shape.length} entries, got ${list.length}`);
    }
  }
  return sliceOp([x], {
    begin: shape.map((size, axis) => {
      const at = begin[axis] ?? 0;
      return at < 0 ? Math.max(0, at + size) : at;
    }),
    end: shape.map((size, axis) => end[axis] ?? size),
    step: shape.map((_, axis) => step[axis] ?? 1),
  })[0]!;
}

const splitOp: Apply<{ sizes: readonly number[]; axis: number }> = defineOp('split', {
  forward: ([x], { sizes, axis }) => native.split(x!, sizes, axis),
  vjp: (cotangents, { outputs, attributes: { axis } }) => [
    concat(
      cotangents.map(
        (g, i) => g ?? full(outputs[i]!.shape, 0, { dtype: outputs[i]!.dtype, device: outputs[i]!.device }),
      ),
      axis,
    ),
  ],
  jvp: ([x], [tx], attributes) => [splitOp([x!], attributes), splitOp([tx!], attributes)],
  saves: 'none',
});

/**
 * Parts of the given sizes along `axis`, or that many equal parts.
 *
 * @throws ArgumentError if the sizes do not add up to the axis
 */
export function split(x: Tensor, sizes: number | readonly number[], axis = 0): Tensor[] {
  const at = axis < 0 ? axis + x.rank : axis;
  const whole = x.shape[at];
  if (whole === undefined)
    throw new ArgumentError('split', `axis must be an axis of [${x.shape.join(', ')}], got ${axis}`);
  const list = typeof sizes === 'number' ? equalParts(whole, sizes) : sizes;
  const total = list.reduce((sum, size) => sum + size, 0);
  if (total !== whole || list.some((size) => !Number.isInteger(size) || size < 0)) {
    throw new ArgumentError('split', `sizes must be whole and add up to ${whole}, got [${list.join(', ')}]`);
  }
  return splitOp([x], { sizes: list, axis: at });
}

function equalParts(whole: number, parts: number): number[] {
  if (!Number.isInteger(parts) || parts < 1 || whole % parts !== 0) {
    throw new ArgumentError('split', `sizes must divide the axis of ${whole}, got ${parts} parts`);
  }
  return new Array<number>(parts).fill(whole / parts);
}

const concatOp: Apply<number> = defineOp('concat', {
  forward: (handles, axis) => native.concat(handles as number[], axis),
  vjp: ([g], { inputs, attributes: axis, needs }) => {
    const at = axis < 0 ? axis + g!.rank : axis;
    if (needs.every(Boolean)) {
      return split(
        g!,
        inputs.map((x) => x!.shape[at]!),
        at,
      );
    }
    let end = 0;
    return inputs.map((x, i) => {
      const begin = end;
      end += x!.shape[at]!;
      if (!needs[i]) return null;
      const only = (value: number) => g!.shape.map((_, j) => (j === at ? value : null));
      return slice(g!, only(begin), only(end));
    });
  },
  jvp: (xs, tangents, axis) => [
    concat(xs as Tensor[], axis),
    concat(
      tangents.map((tx, i) => tx ?? zerosLike(xs[i]!)),
      axis,
    ),
  ],
  saves: 'none',
});

/** One after the other along `axis`; the shapes agree but there. */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  return concatOp(tensors, axis)[0]!;
}

/** Tensors of one shape along a new axis. n × [...] -> [..., n, ...] */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const expanded = tensors.map((x) => expandDims(x, axis));
  try {
    return concat(expanded, axis);
  } finally {
    for (const x of expanded) if (!x._traced) x.dispose();
  }
}

const padOp: Apply<{ before: readonly number[]; after: readonly number[]; value: number }> = defineOp('pad', {
  forward: ([x], { before, after, value }) => native.pad(x!, before, after, value),
  vjp: ([g], { inputs: [x], attributes: { before } }) => [
    slice(
      g!,
      before,
      before.map((at, axis) => at + x!.shape[axis]!),
    ),
  ],
  jvp: ([x], [tx], attributes) => [padOp([x!], attributes)[0]!, padOp([tx!], { ...attributes, value: 0 })[0]!],
  saves: 'none',
});

/** `widths[i]` is how many of `value` (default 0) go before and after axis i. x [...] -> [...] */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
  return padOp([x], { before: widths.map(([before]) => before), after: widths.map(([, after]) => after), value })[0]!;
}

const broadcastToOp: Apply<readonly number[]> = defineOp('broadcastTo', {
  forward: ([x], shape) => native.broadcastTo(x!, shape),
  vjp: ([g], { inputs: [x] }) => [sumTo(g!, x!.shape)],
  jvp: ([x], [tx], shape) => [broadcastTo(x!, shape), broadcastTo(tx!, shape)],
  saves: 'none',
});

/** Repeated along axes that are new or of size 1. x [...] -> [shape] */
export function broadcastTo(x: Tensor, shape: readonly number[]): Tensor {
  return broadcastToOp([x], shape)[0]!;
}

const flipOp: Apply<readonly number[]> = defineOp('flip', {
  forward: ([x], axes) => native.flip(x!, axes),
  vjp: ([g], { attributes: axes }) => [flip(g!, axes)],
  jvp: ([x], [tx], axes) => [flip(x!, axes), flip(tx!, axes)],
  saves: 'none',
});

/** In the opposite order along `axes`. x [...] -> [...] */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  return flipOp([x], typeof axes === 'number' ? [axes] : axes)[0]!;
}

declare module '../tensor' {
  interface Tensor {
    reshape(shape: readonly number[]): Tensor;
    expandDims(axis: number): Tensor;
    squeeze(axes?: number | readonly number[]): Tensor;
    permute(axes: readonly number[]): Tensor;
    transpose(first?: number, second?: number): Tensor;
    slice(begin: Positions, end?: Positions, step?: Positions): Tensor;
    split(sizes: number | readonly number[], axis?: number): Tensor[];
    pad(widths: readonly (readonly [number, number])[], value?: number): Tensor;
    broadcastTo(shape: readonly number[]): Tensor;
    flip(axes: number | readonly number[]): Tensor;
  }
}

Tensor.prototype.reshape = function (shape) {
  return reshape(this, shape);
};
Tensor.prototype.expandDims = function (axis) {
  return expandDims(this, axis);
};
Tensor.prototype.squeeze = function (axes) {
  return squeeze(this, axes);
};
Tensor.prototype.permute = function (axes) {
  return permute(this, axes);
};
Tensor.prototype.transpose = function (first, second) {
  return transpose(this, first, second);
};
Tensor.prototype.slice = function (begin, end, step) {
  return slice(this, begin, end, step);
};
Tensor.prototype.split = function (sizes, axis) {
  return split(this, sizes, axis);
};
Tensor.prototype.pad = function (widths, value) {
  return pad(this, widths, value);
};
Tensor.prototype.broadcastTo = function (shape) {
  return broadcastTo(this, shape);
};
Tensor.prototype.flip = function (axes) {
  return flip(this, axes);
};
