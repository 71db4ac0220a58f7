// Gradients: the faces of the tape.
import { onesLike, zerosLike } from '../create';
import { isFloating } from '../dtype';
import { AutogradError } from '../errors';
import { tidy } from '../memory';
import { isTensor, type Tensor } from '../tensor';
import { leaves, mapTree } from '../tree';
import { alias } from './alias';
import { Tape } from './tape';
import { withTrace } from './trace';

export interface GradOptions {
  /** Which argument, or arguments, to differentiate by. Default 0. */
  argnums?: number | readonly number[];
  /** `f` returns `[loss, extra]`; the value is then `[loss, extra]` as well, `extra` cut off from the tape. */
  hasAux?: boolean;
}

/** A function's arguments of which those at `argnums` become variables of the tape. */
function watchArguments(op: string, tape: Tape, args: readonly unknown[], argnums: readonly number[]) {
  const variables: Tensor[] = [];
  const traced = [...args];
  const watch = (x: Tensor) => {
    if (!isFloating(x.dtype)) {
      throw new AutogradError(op, `can differentiate by floating tensors only, got one of ${x.dtype}`);
    }
    const variable = tape.watch(x);
    variables.push(variable);
    return variable;
  };
  for (const argnum of argnums) {
    if (!Number.isInteger(argnum) || argnum < 0 || argnum >= args.length) {
      throw new AutogradError(op, `argnums must name arguments 0 to ${args.length - 1}, got ${argnum}`);
    }
    traced[argnum] = mapTree(args[argnum], watch);
  }
  return { variables, traced };
}

function untrace<T>(tape: Tape, tree: T): T {
  return mapTree(tree, (x) => alias(tape.owns(x) ? x._traced!.primal : x));
}

/**
 * Turns `f`, whose result is a tensor with one element, into a function that gives its value and its gradient.
 *
 * @returns a function giving `[value, gradient]`. The gradient has the structure of the argument (a tensor, or a map or
 * nesting of them: gradients by name); with an array of `argnums` it is an array of these. Both belong to the caller's
 * scope; all else is freed.
 * @throws AutogradError if the result is not one floating element
 */
export function valueAndGrad<A extends readonly never[] | readonly unknown[], R>(
  f: (...args: A) => R,
  options: GradOptions = {},
  // biome-ignore lint/suspicious/noExplicitAny: the gradient has the structure of the argument, which TypeScript cannot name here
): (...args: A) => [R, any] {
  const { argnums = 0, hasAux = false } = options;
  const many = typeof argnums !== 'number';
  const list = typeof argnums === 'number' ? [argnums] : argnums;
  return (...args: A) =>
    withTrace(
      (level) => new Tape(level),
      (tape) =>
        tidy(() => {
          try {
            const { variables, traced } = watchArguments('grad', tape, args, list);
            const result = f(...(traced as unknown as A));
            const loss: unknown = hasAux ? (result as [Tensor])[0] : result;
            if (!isTensor(loss) || loss.size !== 1 || !isFloating(loss.dtype)) {
              const got = isTensor(loss) ? `${loss.dtype} of shape [${loss.shape.join(', ')}]` : typeof loss;
              throw new AutogradError('grad', `the function must return one floating element, got ${got}`);
            }
            const value = untrace(tape, result);
            const found = tape.owns(loss)
              ? tape.backward([loss], [onesLike(loss._traced!.primal)], variables)
              : variables.map(() => null);
            const gradients = found.map((g, i) => g ?? zerosLike(variables[i]!._traced!.primal));
            let next = 0;
            const structured = list.map((argnum) => mapTree(args[argnum], () => gradients[next++]!));
            return [value, many ? structured : structured[0]];
          } finally {
            tape.dispose();
          }
        }),
    );
}

/** Like {@link valueAndGrad}, but gives the gradient alone. */
export function grad<A extends readonly unknown[], R>(
  f: (...args: A) => R,
  options: Omit<GradOptions, 'hasAux'> = {},
  // biome-ignore lint/suspicious/noExplicitAny: see valueAndGrad
): (...args: A) => any {
  const both = valueAndGrad(f, options);
  return (...args: A) =>
    tidy(() => {
      const [, gradient] = both(...args);
      return gradient;
    });
}

/** Cotangents of the result, of its structure (null: zero), to cotangents of the primals, one per argument. */
export interface Pullback<R> {
  // biome-ignore lint/suspicious/noExplicitAny: one entry per primal, of its structure
  (cotangents: R | null): any[];
  /** Frees what the recording holds. The pullback cannot be called afterwards. */
  dispose(): void;
}

/**
 * The value of `f` at `primals` and the function that pulls cotangents back through it, any number of times.
 *
 * @returns `[out, pullback]`; call `pullback.dispose()` when done, the recording holds memory until then
 */
export function vjp<A extends readonly unknown[], R>(f: (...args: A) => R, primals: A): [R, Pullback<R>] {
  return withTrace(
    (level) => new Tape(level),
    (tape) => {
      let variables: Tensor[] = [];
      let result: R;
      let out: R;
      try {
        out = tidy(() => {
          const watched = watchArguments('vjp', tape, primals, [...primals.keys()]);
          variables = watched.variables;
          result = f(...(watched.traced as unknown as A));
          return untrace(tape, result);
        });
      } catch (error) {
        tape.dispose();
        throw error;
      }
      const pullback = (cotangents: R | null) =>
        tidy(() => {
          if (!tape.active) throw new AutogradError('vjp', 'the pullback was disposed');
          const results = [...leaves(result)];
          const given = cotangents === null ? results.map(() => null) : flatten(result, cotangents);
          const found = tape.backward(results, given, variables);
          let next = 0;
          return primals.map((primal) => mapTree(primal, (x) => found[next++] ?? zerosLike(x)));
        });
      pullback.dispose = () => tape.dispose();
      return [out, pullback];
    },
  );
}

// Cotangents in the order of the result's leaves; a missing or null entry is zero.
function flatten(result: unknown, cotangents: unknown): (Tensor | null)[] {
  const given: (Tensor | null)[] = [];
  const visit = (r: unknown, c: unknown) => {
    if (Array.isArray(r)) for (const [i, item] of r.entries()) visit(item, (c as unknown[] | null)?.[i]);
    else if (r instanceof Map) for (const [key, item] of r) visit(item, (c as Map<string, unknown> | null)?.get(key));
    else if (isTensor(r)) {
      const x = r;
      const g = (c ?? null) as Tensor | null;
      if (g && (g.rank !== x.rank || g.shape.some((size, i) => size !== x.shape[i]))) {
        throw new AutogradError(
          'vjp',
          `a cotangent must have its output's shape [${x.shape.join(', ')}], got [${g.shape.join(', ')}]`,
        );
      }
      given.push(g);
    } else if (typeof r === 'object' && r !== null) {
      for (const [key, item] of Object.entries(r)) visit(item, (c as Record<string, unknown> | null)?.[key]);
    }
  };
  visit(result, cotangents);
  return given;
}

/** The same values as a constant to every gradient and derivative in progress. x [...] -> [...] */
export function stopGradient(x: Tensor): Tensor {
  return alias(x._primal());
}
