// Arithmetic, element by element. Arguments broadcast as in NumPy; where two are taken, either may be a number.
import { type Apply, defineOp } from '../autograd/op';
import type { DType } from '../dtype';
import { isFloating } from '../dtype';
import { native } from '../native';
import { Tensor } from '../tensor';
import { equal, greater, greaterEqual, less, lessEqual, where } from './compare';
import { sumTo } from './reduce';
import { broadcastTo } from './shape';

type UnaryName =
  | 'neg'
  | 'abs'
  | 'sign'
  | 'square'
  | 'sqrt'
  | 'rsqrt'
  | 'reciprocal'
  | 'exp'
  | 'expm1'
  | 'log'
  | 'log1p'
  | 'sin'
  | 'cos'
  | 'tanh'
  | 'sigmoid'
  | 'floor';

/** An op of one argument from its derivative, as a product with `g`, in terms of x alone or of y alone. */
function unary(
  name: UnaryName,
  saves: 'inputs' | 'outputs',
  multiply: (g: Tensor, value: Tensor) => Tensor,
): (x: Tensor) => Tensor {
  const apply: Apply = defineOp(name, {
    forward: ([x]) => native[name](x!),
    elementwise: true,
    vjp: ([g], { inputs, outputs }) => [multiply(g!, (saves === 'inputs' ? inputs : outputs)[0]!)],
    jvp: ([x], [tx]) => {
      const y = apply([x!], undefined)[0]!;
      return [y, multiply(tx!, saves === 'inputs' ? x! : y)];
    },
    saves,
  });
  return (x) => apply([x], undefined)[0]!;
}

/** An op whose derivative is zero wherever it has one. */
function step(name: UnaryName): (x: Tensor) => Tensor {
  const apply: Apply = defineOp(name, { forward: ([x]) => native[name](x!), constant: true, elementwise: true });
  return (x) => apply([x], undefined)[0]!;
}

const negOp: Apply = defineOp('neg', {
  forward: ([x]) => native.neg(x!),
  elementwise: true,
  vjp: ([g]) => [neg(g!)],
  jvp: ([x], [tx]) => [neg(x!), neg(tx!)],
  saves: 'none',
});

/** -x. x [...] -> [...] */
export function neg(x: Tensor): Tensor {
  return negOp([x], undefined)[0]!;
}

/** |x|; its derivative at 0 is 0. x [...] -> [...] */
export const abs = unary('abs', 'inputs', (g, x) => mul(g, sign(x)));
/** -1, 0 or 1; a constant to derivatives. x [...] -> [...] */
export const sign = step('sign');
/** The largest integer not above x; a constant to derivatives. x [...] -> [...] */
export const floor = step('floor');
/** x². x [...] -> [...] */
export const square = unary('square', 'inputs', (g, x) => mul(g, mul(x, 2)));
/** √x. x [...] -> [...] */
export const sqrt = unary('sqrt', 'outputs', (g, y) => mul(div(g, y), 0.5));
/** 1/√x. x [...] -> [...] */
export const rsqrt = unary('rsqrt', 'outputs', (g, y) => mul(mul(g, mul(y, square(y))), -0.5));
/** 1/x. x [...] -> [...] */
export const reciprocal = unary('reciprocal', 'outputs', (g, y) => neg(mul(g, square(y))));
/** eˣ. x [...] -> [...] */
export const exp = unary('exp', 'outputs', (g, y) => mul(g, y));
/** eˣ - 1, exact near 0. x [...] -> [...] */
export const expm1 = unary('expm1', 'outputs', (g, y) => mul(g, add(y, 1)));
/** ln x. x [...] -> [...] */
export const log = unary('log', 'inputs', (g, x) => div(g, x));
/** ln(1 + x), exact near 0. x [...] -> [...] */
export const log1p = unary('log1p', 'inputs', (g, x) => div(g, add(x, 1)));
/** x [...] -> [...] */
export const sin = unary('sin', 'inputs', (g, x) => mul(g, cos(x)));
/** x [...] -> [...] */
export const cos = unary('cos', 'inputs', (g, x) => neg(mul(g, sin(x))));
/** x [...] -> [...] */
export const tanh = unary('tanh', 'outputs', (g, y) => mul(g, sub(1, square(y))));
/** 1/(1 + e⁻ˣ). x [...] -> [...] */
export const sigmoid = unary('sigmoid', 'outputs', (g, y) => mul(g, mul(y, sub(1, y))));

type Operand = Tensor | number;

/** The sum of two tangents of which one may be zero, in the shape of the value. */
function total(left: Tensor | null, right: Tensor | null, value: Tensor): Tensor {
  return left && right ? add(left, right) : broadcastTo((left ?? right)!, value.shape);
}

/** An op of a tensor and a number from the product of its derivative with `g`. */
function withScalar(
  name: string,
  forward: (x: number, scalar: number) => number,
  saves: 'inputs' | 'outputs' | 'none',
  multiply: (g: Tensor, scalar: number, value: Tensor) => Tensor,
): (x: Tensor, scalar: number) => Tensor {
  const apply: Apply<number> = defineOp(name, {
    forward: ([x], scalar) => forward(x!, scalar),
    elementwise: true,
    vjp: ([g], { inputs, outputs, attributes }) => [
      multiply(g!, attributes, (saves === 'outputs' ? outputs : inputs)[0]!),
    ],
    jvp: ([x], [tx], scalar) => {
      const y = apply([x!], scalar)[0]!;
      return [y, multiply(tx!, scalar, saves === 'outputs' ? y : x!)];
    },
    saves,
  });
  return (x, scalar) => apply([x], scalar)[0]!;
}

const addOp: Apply = defineOp('add', {
  forward: ([a, b]) => native.add(a!, b!),
  elementwise: true,
  vjp: ([g], { inputs: [a, b], needs }) => [
    needs[0] ? sumTo(g!, a!.shape) : null,
    needs[1] ? sumTo(g!, b!.shape) : null,
  ],
  jvp: ([a, b], [ta, tb]) => {
    const y = add(a!, b!);
    return [y, total(ta!, tb!, y)];
  },
  saves: 'none',
});
const addScalar = withScalar(
  'add',
  (x, s) => native.addScalar(x, s),
  'none',
  (g) => g,
);

/** a + b. a [...], b [...] -> [...] */
export function add(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number') return addScalar(a as Tensor, b);
  if (typeof a === 'number') return addScalar(b, a);
  return addOp([a, b], undefined)[0]!;
}

const subOp: Apply = defineOp('sub', {
  forward: ([a, b]) => native.sub(a!, b!),
  elementwise: true,
  vjp: ([g], { inputs: [a, b], needs }) => [
    needs[0] ? sumTo(g!, a!.shape) : null,
    needs[1] ? neg(sumTo(g!, b!.shape)) : null,
  ],
  jvp: ([a, b], [ta, tb]) => {
    const y = sub(a!, b!);
    return [y, ta && tb ? sub(ta, tb) : broadcastTo(ta ?? neg(tb!), y.shape)];
  },
  saves: 'none',
});
const subScalar = withScalar(
  'sub',
  (x, s) => native.subScalar(x, s),
  'none',
  (g) => g,
);
const scalarSub = withScalar(
  'sub',
  (x, s) => native.scalarSub(s, x),
  'none',
  (g) => neg(g),
);

/** a - b. a [...], b [...] -> [...] */
export function sub(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number') return subScalar(a as Tensor, b);
  if (typeof a === 'number') return scalarSub(b, a);
  return subOp([a, b], undefined)[0]!;
}

const mulOp: Apply = defineOp('mul', {
  forward: ([a, b]) => native.mul(a!, b!),
  elementwise: true,
  vjp: ([g], { inputs: [a, b], needs }) => [
    needs[0] ? sumTo(mul(g!, b!), a!.shape) : null,
    needs[1] ? sumTo(mul(g!, a!), b!.shape) : null,
  ],
  jvp: ([a, b], [ta, tb]) => {
    const y = mul(a!, b!);
    return [y, total(ta ? mul(ta, b!) : null, tb ? mul(a!, tb) : null, y)];
  },
});
const mulScalar = withScalar(
  'mul',
  (x, s) => native.mulScalar(x, s),
  'none',
  (g, s) => mulScalar(g, s),
);

/** a · b, element by element. a [...], b [...] -> [...] */
export function mul(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number') return mulScalar(a as Tensor, b);
  if (typeof a === 'number') return mulScalar(b, a);
  return mulOp([a, b], undefined)[0]!;
}

const divOp: Apply = defineOp('div', {
  forward: ([a, b]) => native.div(a!, b!),
  elementwise: true,
  vjp: ([g], { inputs: [a, b], needs }) => {
    const ga = div(g!, b!);
    return [needs[0] ? sumTo(ga, a!.shape) : null, needs[1] ? neg(sumTo(mul(ga, div(a!, b!)), b!.shape)) : null];
  },
  jvp: ([a, b], [ta, tb]) => {
    const y = div(a!, b!);
    const change = tb ? mul(y, tb) : null;
    if (!change) return [y, div(ta!, b!)];
    return [y, div(ta ? sub(ta, change) : neg(change), b!)];
  },
});
const divScalar = withScalar(
  'div',
  (x, s) => native.divScalar(x, s),
  'none',
  (g, s) => divScalar(g, s),
);
const scalarDiv = withScalar(
  'div',
  (x, s) => native.scalarDiv(s, x),
  'inputs',
  (g, s, x) => mul(g, scalarDiv(square(x), -s)),
);

/** a / b, by IEEE where b is 0. a [...], b [...] -> [...] */
export function div(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number') return divScalar(a as Tensor, b);
  if (typeof a === 'number') return scalarDiv(b, a);
  return divOp([a, b], undefined)[0]!;
}

// Exponents and bases are replaced where a product with zero would meet an infinity: ∂/∂a aᵇ at b = 0, ∂/∂b at a = 0.
const powByBase = (g: Tensor, a: Tensor, b: Tensor) => mul(g, mul(b, pow(a, where(equal(b, 0), 1, sub(b, 1)))));
const powByExponent = (g: Tensor, a: Tensor, b: Tensor) => mul(g, mul(pow(a, b), log(where(equal(a, 0), 1, a))));

const powOp: Apply = defineOp('pow', {
  forward: ([a, b]) => native.pow(a!, b!),
  elementwise: true,
  vjp: ([g], { inputs: [a, b], needs }) => [
    needs[0] ? sumTo(powByBase(g!, a!, b!), a!.shape) : null,
    needs[1] ? sumTo(powByExponent(g!, a!, b!), b!.shape) : null,
  ],
  jvp: ([a, b], [ta, tb]) => {
    const y = pow(a!, b!);
    return [y, total(ta ? powByBase(ta, a!, b!) : null, tb ? powByExponent(tb, a!, b!) : null, y)];
  },
});
const powScalar = withScalar(
  'pow',
  (x, s) => native.powScalar(x, s),
  'inputs',
  (g, s, x) => {
    if (s === 0) return mul(g, 0);
    if (s === 1) return g;
    return mul(g, mul(s === 2 ? x : powScalar(x, s - 1), s));
  },
);
const scalarPow = withScalar(
  'pow',
  (x, s) => native.scalarPow(s, x),
  'outputs',
  (g, s, y) => mul(g, s === 0 ? mul(y, 0) : mul(y, Math.log(s))),
);

/** aᵇ. a [...], b [...] -> [...] */
export function pow(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number') return powScalar(a as Tensor, b);
  if (typeof a === 'number') return scalarPow(b, a);
  return powOp([a, b], undefined)[0]!;
}

/** maximum and minimum: the derivative goes to the argument that was taken, to the first where they are equal. */
function selection(
  name: 'maximum' | 'minimum',
  takesFirst: (a: Tensor, b: Tensor) => Tensor,
): (a: Tensor, b: Tensor) => Tensor {
  const apply: Apply = defineOp(name, {
    forward: ([a, b]) => native[name](a!, b!),
    elementwise: true,
    vjp: ([g], { inputs: [a, b], needs }) => {
      const first = takesFirst(a!, b!);
      return [
        needs[0] ? sumTo(where(first, g!, 0), a!.shape) : null,
        needs[1] ? sumTo(where(first, 0, g!), b!.shape) : null,
      ];
    },
    jvp: ([a, b], [ta, tb]) => [apply([a!, b!], undefined)[0]!, where(takesFirst(a!, b!), ta ?? 0, tb ?? 0)],
  });
  return (a, b) => apply([a, b], undefined)[0]!;
}

const maximumOp = selection('maximum', greaterEqual);
const minimumOp = selection('minimum', lessEqual);
const maximumScalar = withScalar(
  'maximum',
  (x, s) => native.maximumScalar(x, s),
  'inputs',
  (g, s, x) => where(greater(x, s), g, 0),
);
const minimumScalar = withScalar(
  'minimum',
  (x, s) => native.minimumScalar(x, s),
  'inputs',
  (g, s, x) => where(less(x, s), g, 0),
);

/** The larger; NaN if either is. The derivative at equal values goes to a, at a number to none. a [...], b [...] -> [...] */
export function maximum(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number') return maximumScalar(a as Tensor, b);
  if (typeof a === 'number') return maximumScalar(b, a);
  return maximumOp(a, b);
}

/** The smaller; NaN if either is. The derivative at equal values goes to a, at a number to none. a [...], b [...] -> [...] */
export function minimum(a: Operand, b: Operand): Tensor {
  if (typeof b === 'number') return minimumScalar(a as Tensor, b);
  if (typeof a === 'number') return minimumScalar(b, a);
  return minimumOp(a, b);
}

const clampOp: Apply<{ low: number; high: number }> = defineOp('clamp', {
  forward: ([x], { low, high }) => native.clamp(x!, low, high),
  elementwise: true,
  vjp: ([g], { inputs: [x], attributes }) => [where(equal(clamp(x!, attributes), x!), g!, 0)],
  jvp: ([x], [tx], attributes) => {
    const y = clamp(x!, attributes);
    return [y, where(equal(y, x!), tx!, 0)];
  },
});

/** x, or the nearer bound where it lies outside `[low, high]`; NaN stays. x [...] -> [...] */
export function clamp(x: Tensor, bounds: { low?: number; high?: number }): Tensor {
  const { low = Number.NEGATIVE_INFINITY, high = Number.POSITIVE_INFINITY } = bounds;
  return clampOp([x], { low, high })[0]!;
}

const castOp: Apply<DType> = defineOp('cast', {
  forward: ([x], dtype) => native.cast(x!, dtype),
  vjp: ([g], { inputs: [x] }) => [cast(g!, x!.dtype)],
  jvp: ([x], [tx], dtype) => [cast(x!, dtype), cast(tx!, dtype)],
  saves: 'none',
});
const castDiscrete: Apply<DType> = defineOp('cast', {
  forward: ([x], dtype) => native.cast(x!, dtype),
  constant: true,
});

/**
 * The same values in another element type. Floats become int32 by truncation, within its range, NaN as 0; all but 0 is
 * true. Carries derivatives between floating types. x [...] -> [...]
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  return (isFloating(dtype) ? castOp : castDiscrete)([x], dtype)[0]!;
}

const toDeviceOp: Apply<string> = defineOp('to', {
  forward: ([x], device) => native.toDevice(x!, device),
  vjp: ([g], { inputs: [x] }) => [toDevice(g!, x!.device)],
  jvp: ([x], [tx], device) => [toDevice(x!, device), toDevice(tx!, device)],
  saves: 'none',
});

/** The same values on another device. x [...] -> [...] */
export function toDevice(x: Tensor, device: string): Tensor {
  return toDeviceOp([x], device)[0]!;
}

declare module '../tensor' {
  interface Tensor {
    add(b: Tensor | number): Tensor;
    sub(b: Tensor | number): Tensor;
    mul(b: Tensor | number): Tensor;
    div(b: Tensor | number): Tensor;
    pow(b: Tensor | number): Tensor;
    maximum(b: Tensor | number): Tensor;
    minimum(b: Tensor | number): Tensor;
    clamp(bounds: { low?: number; high?: number }): Tensor;
    neg(): Tensor;
    abs(): Tensor;
    sign(): Tensor;
    floor(): Tensor;
    square(): Tensor;
    sqrt(): Tensor;
    rsqrt(): Tensor;
    reciprocal(): Tensor;
    exp(): Tensor;
    expm1(): Tensor;
    log(): Tensor;
    log1p(): Tensor;
    sin(): Tensor;
    cos(): Tensor;
    tanh(): Tensor;
    sigmoid(): Tensor;
    /** The same values in another element type or on another device; always a handle of its own. */
    to(options: { dtype?: DType; device?: string }): Tensor;
  }
}

const unaryMethods = {
  neg,
  abs,
  sign,
  floor,
  square,
  sqrt,
  rsqrt,
  reciprocal,
  exp,
  expm1,
  log,
  log1p,
  sin,
  cos,
  tanh,
  sigmoid,
};
for (const [name, apply] of Object.entries(unaryMethods)) {
  Tensor.prototype[name as keyof typeof unaryMethods] = function (this: Tensor) {
    return apply(this);
  };
}
const binaryMethods = { add, sub, mul, div, pow, maximum, minimum };
for (const [name, apply] of Object.entries(binaryMethods)) {
  Tensor.prototype[name as keyof typeof binaryMethods] = function (this: Tensor, b: Operand) {
    return apply(this, b);
  };
}
Tensor.prototype.clamp = function (bounds) {
  return clamp(this, bounds);
};
Tensor.prototype.to = function ({ dtype, device }) {
  if (device === undefined || device === this.device) return cast(this, dtype ?? this.dtype);
  if (dtype === undefined || dtype === this.dtype) return toDevice(this, device);
  const moved = toDevice(this, device);
  try {
    return cast(moved, dtype);
  } finally {
    if (!moved._traced) moved.dispose();
  }
};
