// Elementwise operations. Arguments broadcast as in NumPy.
import { defineOp } from '../autograd/op';
import { native } from '../native';
import type { Tensor } from '../tensor';

const addOp = defineOp('add', {
  forward: ([a, b]) => native.add(a!, b!),
  vjp: ([g]) => [g!, g!],
  jvp: ([a, b], [ta, tb]) => [add(a!, b!), ta && tb ? add(ta, tb) : (ta ?? tb)!],
  saves: 'none',
});

/** a + b. a [...], b [...] -> [...] */
export function add(a: Tensor, b: Tensor): Tensor {
  return addOp([a, b], undefined)[0]!;
}

const mulOp = defineOp('mul', {
  forward: ([a, b]) => native.mul(a!, b!),
  vjp: ([g], { inputs: [a, b], needs }) => [needs[0] ? mul(g!, b!) : null, needs[1] ? mul(g!, a!) : null],
  jvp: ([a, b], [ta, tb]) => {
    const left = ta && mul(ta, b!);
    const right = tb && mul(a!, tb);
    return [mul(a!, b!), left && right ? add(left, right) : (left ?? right)!];
  },
});

/** a · b, element by element. a [...], b [...] -> [...] */
export function mul(a: Tensor, b: Tensor): Tensor {
  return mulOp([a, b], undefined)[0]!;
}

const sinOp = defineOp('sin', {
  forward: ([x]) => native.sin(x!),
  vjp: ([g], { inputs: [x] }) => [mul(g!, cos(x!))],
  jvp: ([x], [tx]) => [sin(x!), mul(tx!, cos(x!))],
});

export function sin(x: Tensor): Tensor {
  return sinOp([x], undefined)[0]!;
}

const cosOp = defineOp('cos', {
  forward: ([x]) => native.cos(x!),
  vjp: ([g], { inputs: [x] }) => [neg(mul(g!, sin(x!)))],
  jvp: ([x], [tx]) => [cos(x!), neg(mul(tx!, sin(x!)))],
});

export function cos(x: Tensor): Tensor {
  return cosOp([x], undefined)[0]!;
}

const negOp = defineOp('neg', {
  forward: ([x]) => native.neg(x!),
  vjp: ([g]) => [neg(g!)],
  jvp: ([x], [tx]) => [neg(x!), neg(tx!)],
  saves: 'none',
});

export function neg(x: Tensor): Tensor {
  return negOp([x], undefined)[0]!;
}
