// Forward mode: tensors that carry a tangent beside their value. A null tangent is a symbolic zero and costs nothing.

import { zerosLike } from '../create';
import { AutogradError, ShapeError } from '../errors';
import { tidy } from '../memory';
import { isTensor, Tensor } from '../tensor';
import { mapTree } from '../tree';
import { alias } from './alias';
import { applyOp, asArray, type Op, runRule } from './op';
import { type Trace, withTrace } from './trace';

type MaybeTensor = Tensor | null;

class JvpTrace implements Trace {
  readonly kind = 'jvp';
  active = true;

  constructor(readonly level: number) {}

  wrap(primal: Tensor, tangent: MaybeTensor): Tensor {
    return tangent === null ? primal : new Tensor(-1, { trace: this, primal, tangent, node: -1, output: -1 });
  }

  owns(x: MaybeTensor): x is Tensor {
    return x instanceof Tensor && x._traced?.trace === this;
  }

  process(op: Op, inputs: readonly MaybeTensor[], attributes: unknown): MaybeTensor[] {
    const primals = inputs.map((input) => (this.owns(input) ? input._traced!.primal : input));
    if (op.constant) return applyOp(op, primals, attributes);
    if (!op.jvp) {
      if (op.composition) return [...asArray(op.composition(inputs, attributes))];
      throw new AutogradError(op.name, 'has no forward-mode derivative');
    }
    const given = inputs.map((input) => (this.owns(input) ? input._traced!.tangent : null));
    const [outputs, tangents] = runRule(() => op.jvp!(primals, given, attributes));
    const tangentArray = asArray(tangents);
    return asArray(outputs).map((output, i) => (output === null ? null : this.wrap(output, tangentArray[i] ?? null)));
  }
}

/**
 * The value of `f` at `primals` and its derivative in the direction `tangents`, in one pass.
 *
 * @param f takes tensors, or nestings of them, and gives a tensor or a nesting
 * @param primals one entry per argument of `f`
 * @param tangents one entry per argument, of the same shapes; null is zero and costs nothing
 * @returns `[f(...primals), derivative]`; the derivative has the structure of the value
 * @throws ShapeError where a tangent's shape is not its primal's
 */
export function jvp<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  primals: A,
  tangents: { [K in keyof A]: unknown },
): [R, R] {
  if (!Array.isArray(primals) || !Array.isArray(tangents) || primals.length !== tangents.length) {
    throw new AutogradError('jvp', 'primals and tangents must be arrays of the same length');
  }
  return withTrace(
    (level) => new JvpTrace(level),
    (trace) =>
      tidy(() => {
        try {
          const result = f(...(primals.map((primal, i) => pair(trace, primal, tangents[i])) as unknown as A));
          const value = mapTree(result, (x) => alias(trace.owns(x) ? x._traced!.primal : x));
          const derivative = mapTree(result, (x) => {
            const tangent = trace.owns(x) ? x._traced!.tangent : null;
            return tangent ? alias(tangent) : zerosLike(x);
          });
          return [value, derivative];
        } finally {
          trace.active = false;
        }
      }),
  );
}

function pair(trace: JvpTrace, primal: unknown, tangent: unknown): unknown {
  if (tangent === null || tangent === undefined) return primal;
  if (isTensor(primal)) {
    if (!isTensor(tangent))
      throw new AutogradError('jvp', 'a tangent must be a tensor or null where its primal is one');
    if (tangent.shape.length !== primal.shape.length || tangent.shape.some((size, i) => size !== primal.shape[i])) {
      throw new ShapeError(
        'jvp',
        `a tangent must have its primal's shape [${primal.shape.join(', ')}], got [${tangent.shape.join(', ')}]`,
      );
    }
    return trace.wrap(primal, tangent);
  }
  if (Array.isArray(primal) && Array.isArray(tangent)) return primal.map((p, i) => pair(trace, p, tangent[i]));
  if (primal instanceof Map && tangent instanceof Map) {
    return new Map([...primal].map(([key, p]) => [key, pair(trace, p, tangent.get(key))]));
  }
  if (typeof primal === 'object' && primal !== null && typeof tangent === 'object') {
    const given = tangent as Record<string, unknown>;
    return Object.fromEntries(Object.entries(primal).map(([key, p]) => [key, pair(trace, p, given[key])]));
  }
  return primal;
}
