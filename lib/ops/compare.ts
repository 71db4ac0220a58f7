// Comparisons and choices. Arguments broadcast as in NumPy; either may be a number. Comparisons are constants to
// derivatives, and false for NaN, but for notEqual.
import { type Apply, defineOp } from '../autograd/op';
import { native } from '../native';
import { Tensor } from '../tensor';
import { sumTo } from './reduce';

type Operand = Tensor | number;
type CompareName = 'equal' | 'notEqual' | 'less' | 'lessEqual' | 'greater' | 'greaterEqual';

/** `mirrored` is the comparison that says the same with its arguments exchanged. */
function comparison(name: CompareName, mirrored: CompareName): (a: Operand, b: Operand) => Tensor {
  const apply: Apply = defineOp(name, { forward: ([a, b]) => native[name](a!, b!), constant: true });
  const applyScalar = defineOp<number>(name, {
    forward: ([a], scalar) => native[`${name}Scalar`](a!, scalar),
    constant: true,
  });
  const applyMirrored = defineOp<number>(name, {
    forward: ([b], scalar) => native[`${mirrored}Scalar`](b!, scalar),
    constant: true,
  });
  return (a, b) => {
    if (typeof b === 'number') return applyScalar([a as Tensor], b)[0]!;
    if (typeof a === 'number') return applyMirrored([b], a)[0]!;
    return apply([a, b], undefined)[0]!;
  };
}

/** a = b. a [...], b [...] -> bool [...] */
export const equal = comparison('equal', 'equal');
/** a ≠ b. a [...], b [...] -> bool [...] */
export const notEqual = comparison('notEqual', 'notEqual');
/** a < b. a [...], b [...] -> bool [...] */
export const less = comparison('less', 'greater');
/** a ≤ b. a [...], b [...] -> bool [...] */
export const lessEqual = comparison('lessEqual', 'greaterEqual');
/** a > b. a [...], b [...] -> bool [...] */
export const greater = comparison('greater', 'less');
/** a ≥ b. a [...], b [...] -> bool [...] */
export const greaterEqual = comparison('greaterEqual', 'lessEqual');

const logicalNotOp: Apply = defineOp('logicalNot', { forward: ([x]) => native.logicalNot(x!), constant: true });

/** True where x is false. x bool [...] -> bool [...] */
export function logicalNot(x: Tensor): Tensor {
  return logicalNotOp([x], undefined)[0]!;
}

const whereOp: Apply<{ a: number; b: number }> = defineOp('where', {
  forward: ([condition, a, b], scalars) => native.where(condition!, a!, b!, scalars.a, scalars.b),
  vjp: ([g], { inputs: [condition, a, b], needs }) => [
    null,
    needs[1] ? sumTo(where(condition!, g!, 0), a!.shape) : null,
    needs[2] ? sumTo(where(condition!, 0, g!), b!.shape) : null,
  ],
  // A number, or a zero tangent, moves nothing where it is chosen.
  jvp: ([condition, a, b], [, ta, tb], scalars) => {
    const y = where(condition!, a ?? scalars.a, b ?? scalars.b);
    const ty = where(condition!, ta ?? 0, tb ?? 0);
    return [y, broadcastLike(ty, y)];
  },
});

// The tangent of the only moving argument may lack axes that the other one has.
function broadcastLike(tangent: Tensor, value: Tensor): Tensor {
  return tangent.rank === value.rank && tangent.shape.every((size, i) => size === value.shape[i])
    ? tangent
    : tangent.broadcastTo(value.shape);
}

/** a where `condition` is true, else b. condition bool [...], a [...], b [...] -> [...] */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  const scalar = (x: Operand) => (typeof x === 'number' ? x : 0);
  const tensor = (x: Operand) => (typeof x === 'number' ? null : x);
  return whereOp([condition, tensor(a), tensor(b)], { a: scalar(a), b: scalar(b) })[0]!;
}

declare module '../tensor' {
  interface Tensor {
    equal(b: Tensor | number): Tensor;
    notEqual(b: Tensor | number): Tensor;
    less(b: Tensor | number): Tensor;
    lessEqual(b: Tensor | number): Tensor;
    greater(b: Tensor | number): Tensor;
    greaterEqual(b: Tensor | number): Tensor;
    logicalNot(): Tensor;
    /** Of a bool tensor: a where it is true, else b. */
    where(a: Tensor | number, b: Tensor | number): Tensor;
  }
}

const methods = { equal, notEqual, less, lessEqual, greater, greaterEqual };
for (const [name, apply] of Object.entries(methods)) {
  Tensor.prototype[name as keyof typeof methods] = function (this: Tensor, b: Operand) {
    return apply(this, b);
  };
}
Tensor.prototype.logicalNot = function () {
  return logicalNot(this);
};
Tensor.prototype.where = function (a, b) {
  return where(this, a, b);
};
