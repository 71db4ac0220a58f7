// Activations. Value and tangent, and the backward of both, are one pass each.
import { type Apply, defineOp } from '../autograd/op';
import { native } from '../native';
import type { Tensor } from '../tensor';
import { add, mul, sigmoid, sub, tanh } from './elementwise';

type MaybeTensor = Tensor | null;
interface Needs {
  needs: readonly boolean[];
}
interface Derivatives {
  value: Tensor;
  first: Tensor;
  second: Tensor;
}

/** An activation's op from its kernels' names and its derivatives in plain ops. */
function defineActivation(name: 'gelu' | 'silu', derivatives: (x: Tensor) => Derivatives): (x: Tensor) => Tensor {
  const plus = (a: MaybeTensor, b: MaybeTensor) => (a && b ? add(a, b) : (a ?? b));
  const backward: Apply<Needs> = defineOp<Needs>(`${name}JvpVjp`, {
    forward: ([x, tx, g, h], { needs }) =>
      native[`${name}JvpVjp`](x!, tx ?? null, g ?? null, h ?? null, needs[0]!, needs[1]!),
    composition: ([x, tx, g, h], { needs }) => {
      const { first, second } = derivatives(x!);
      const curved = tx && h ? mul(second, mul(tx, h)) : null;
      return [needs[0] ? plus(g ? mul(first, g) : null, curved) : null, needs[1] && h ? mul(first, h) : null];
    },
  });
  const forward: Apply = defineOp(`${name}Jvp`, {
    forward: ([x, tx]) => native[`${name}Jvp`](x!, tx!),
    vjp: ([g, h], { inputs: [x, tx], needs }) => backward([x!, tx!, g!, h!], { needs }),
    composition: ([x, tx]) => {
      const { value, first } = derivatives(x!);
      return [value, mul(first, tx!)];
    },
  });
  const apply: Apply = defineOp(name, {
    forward: ([x]) => native[name](x!),
    elementwise: true,
    vjp: ([g], { inputs: [x] }) => [backward([x!, null, g!, null], { needs: [true, false] })[0]!],
    jvp: ([x], [tx]) => forward([x!, tx!], undefined) as [Tensor, Tensor],
  });
  return (x) => apply([x], undefined)[0]!;
}

/**
 * GELU in its tanh form: x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))) (Hendrycks and Gimpel, arXiv 1606.08415).
 * x [...] -> [...]
 */
export const gelu: (x: Tensor) => Tensor = defineActivation('gelu', (x) => {
  const root = Math.sqrt(2 / Math.PI);
  const x2 = mul(x, x);
  const t = tanh(mul(x, add(mul(x2, root * 0.044715), root)));
  const u1 = add(mul(x2, 3 * root * 0.044715), root);
  const u2 = mul(x, 6 * root * 0.044715);
  const slope = sub(1, mul(t, t));
  const half = mul(x, 0.5);
  return {
    value: mul(half, add(t, 1)),
    first: add(mul(mul(half, slope), u1), mul(add(t, 1), 0.5)),
    second: mul(slope, add(mul(half, sub(u2, mul(mul(t, 2), mul(u1, u1)))), u1)),
  };
});

/** SiLU: x σ(x). x [...] -> [...] */
export const silu: (x: Tensor) => Tensor = defineActivation('silu', (x) => {
  const s = sigmoid(x);
  const slope = mul(s, sub(1, s));
  return {
    value: mul(x, s),
    first: add(s, mul(x, slope)),
    second: mul(slope, add(mul(x, sub(1, mul(s, 2))), 2)),
  };
});
