// Matrix products and linear layers.
import { type Apply, defineOp } from '../autograd/op';
import { ArgumentError } from '../errors';
import { native } from '../native';
import type { Tensor } from '../tensor';
import { add, mul } from './elementwise';
import { sum, sumTo } from './reduce';
import { reshape } from './shape';

type MaybeTensor = Tensor | null;

interface MatmulOptions {
  /** Read `a` as its transpose in the last two axes. */
  transposeA?: boolean;
  transposeB?: boolean;
}

function addIfBoth(a: MaybeTensor | undefined, b: MaybeTensor | undefined): MaybeTensor {
  return a && b ? add(a, b) : (a ?? b ?? null);
}

const matmulOp: Apply<Required<MatmulOptions>> = defineOp<Required<MatmulOptions>>('matmul', {
  forward: ([a, b], { transposeA, transposeB }) => native.matmul(a!, b!, transposeA, transposeB),
  vjp: ([g], { inputs: [a, b], needs, attributes: { transposeA, transposeB } }) => [
    needs[0]
      ? sumTo(
          transposeA
            ? matmul(b!, g!, { transposeA: transposeB, transposeB: true })
            : matmul(g!, b!, { transposeB: !transposeB }),
          a!.shape,
        )
      : null,
    needs[1]
      ? sumTo(
          transposeB
            ? matmul(g!, a!, { transposeA: true, transposeB: transposeA })
            : matmul(a!, g!, { transposeA: !transposeA }),
          b!.shape,
        )
      : null,
  ],
  jvp: ([a, b], [ta, tb], options) => [
    matmul(a!, b!, options),
    addIfBoth(ta && matmul(ta, b!, options), tb && matmul(a!, tb, options)),
  ],
});

export type MatmulPrecision = 'highest' | 'tf32';

/**
 * How precisely float32 matrices are multiplied on a CUDA device, from the next operation on, by `matmul`, linear layers and
 * their derivatives. 'highest', the default, is float32 throughout; 'tf32' lets tensor cores round the factors to 10 bits
 * after the point and adds up in float32, which is several times faster. Other types are not affected, and the CPU, which
 * has no such arithmetic, takes the setting and changes nothing.
 *
 * @throws ArgumentError for another precision, DeviceUnavailableError if there is no such device
 */
export function setMatmulPrecision(precision: MatmulPrecision, device = 'cuda'): void {
  if (precision !== 'highest' && precision !== 'tf32') {
    throw new ArgumentError(
      'setMatmulPrecision',
      `precision must be 'highest' or 'tf32', got ${typeof precision === 'string' ? `'${precision}'` : String(precision)}`,
    );
  }
  native.allowTf32(device, precision === 'tf32');
}

/**
 * Matrix product over the last two axes; leading axes broadcast.
 * a [..., m, k] (or [..., k, m] with `transposeA`), b [..., k, n] (or [..., n, k] with `transposeB`) -> [..., m, n]
 *
 * @throws ShapeError if the inner sizes differ or the leading axes do not broadcast
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false } = options;
  return matmulOp([a, b], { transposeA, transposeB })[0]!;
}

const linearOp: Apply = defineOp('linear', {
  forward: ([x, weight, bias]) => native.linear(x!, weight!, bias!),
  vjp: ([g], { inputs: [x, weight], needs }) =>
    linearJvpVjp([x!, weight!, null, null], g!, null, [needs[0]!, needs[1]!, needs[2]!, false, false, false]).slice(
      0,
      3,
    ),
  jvp: ([x, weight, bias], [tx, tweight, tbias]) => linearJvp([x!, weight!, bias!], [tx!, tweight!, tbias!]),
});

/**
 * A linear layer: x weightᵀ + bias. x [..., in], weight [out, in], bias [out] or null -> [..., out]
 *
 * @throws ShapeError if the feature sizes differ
 */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  return linearOp([x, weight, bias], undefined)[0]!;
}

const linearJvpOp: Apply = defineOp('linearJvp', {
  forward: ([x, weight, bias, tx, tweight, tbias]) => native.linearJvp(x!, weight!, bias!, tx!, tweight!, tbias!),
  vjp: ([g, h], { inputs: [x, weight, , tx, tweight], needs }) =>
    linearJvpVjp([x!, weight!, tx!, tweight!], g!, h!, needs),
  composition: ([x, weight, bias, tx, tweight, tbias]) => {
    const product = (a: MaybeTensor, b: MaybeTensor) => a && b && linear(a, b);
    const y = linear(x!, weight!, bias);
    const ty = addIfBoth(product(tx!, weight!), product(x!, tweight!));
    // A zero that has y's shape: where the bias alone moves, its tangent is broadcast.
    return [y, tbias ? add(ty ?? mul(y, 0), tbias) : ty];
  },
});

/** `linear` and its tangent in one call: both share the weight. Null tangents are zero. -> [y, ty], each [..., out] */
export function linearJvp(
  [x, weight, bias]: readonly [Tensor, Tensor, MaybeTensor],
  [tx, tweight, tbias]: readonly [MaybeTensor, MaybeTensor, MaybeTensor],
): [Tensor, Tensor] {
  return linearJvpOp([x, weight, bias, tx, tweight, tbias], undefined) as [Tensor, Tensor];
}

const linearJvpVjpOp: Apply<readonly boolean[]> = defineOp<readonly boolean[]>('linearJvpVjp', {
  forward: ([x, weight, tx, tweight, g, h], needs) =>
    native.linearJvpVjp(
      x!,
      weight!,
      tx!,
      tweight!,
      g!,
      h!,
      needs[0]!,
      needs[1]!,
      needs[2]!,
      needs[3]!,
      needs[4]!,
      needs[5]!,
    ),
  composition: ([x, weight, tx, tweight, g, h], needs) => {
    const rows = (t: MaybeTensor) => t && reshape(t, [-1, t.shape[t.rank - 1]!]);
    const times = (a: MaybeTensor, b: MaybeTensor) => a && b && matmul(a, b);
    const outer = (a: MaybeTensor, b: MaybeTensor) => a && b && matmul(a, b, { transposeA: true });
    const [xs, txs, gs, hs] = [rows(x!), rows(tx!), rows(g!), rows(h!)];
    const like = (t: MaybeTensor, y: Tensor) => t && reshape(t, y.shape);
    const results = [
      () => like(addIfBoth(times(gs, weight!), times(hs, tweight!)), x!),
      () => addIfBoth(outer(gs, xs), outer(hs, txs)),
      () => gs && sum(gs, 0),
      () => like(times(hs, weight!), x!),
      () => outer(hs, xs),
      () => hs && sum(hs, 0),
    ];
    return results.map((result, i) => (needs[i] ? result() : null));
  },
});

/**
 * Pulls cotangents of `linear` (g) and of its tangent (h) back to [x, weight, bias, tx, tweight, tbias]; null where not
 * needed. A null cotangent is zero.
 */
export function linearJvpVjp(
  [x, weight, tx, tweight]: readonly [Tensor, Tensor, MaybeTensor, MaybeTensor],
  g: MaybeTensor,
  h: MaybeTensor,
  needs: readonly boolean[],
): MaybeTensor[] {
  return linearJvpVjpOp([x, weight, tx, tweight, g, h], needs);
}
