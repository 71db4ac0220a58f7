// Trades time for memory: nothing inside is saved, and the backward pass computes it again.
import { AutogradError } from '../errors';
import { isTensor, type Tensor } from '../tensor';
import { leaves, mapTree } from '../tree';
import { jvp } from './forward';
import { applyOp, type Op, withInputFilter } from './op';
import { vjp } from './reverse';
import { liveTraces, type Trace } from './trace';

type Run = (values: readonly Tensor[]) => Tensor[];
type Values = readonly (Tensor | null)[];

/**
 * Wraps `fn` so that the tape saves its inputs only and computes it again in the backward pass. Works under
 * {@link jvp}, and under any nesting. Tensors that `fn` closes over are found by running it once; name them all in
 * `captures` (none: []) to save that run. The second run comes later: what stood in for a module's parameters in
 * `functionalCall` then no longer does, so pass such parameters as an argument and call `functionalCall` inside.
 *
 * @param fn tensors or nestings in, a tensor or an array of tensors out; must give the same result when run again
 * @throws AutogradError if `captures` is given and `fn` uses a traced tensor that is not in it, or if, run again, `fn`
 * does not meet the tensors it had closed over
 */
export function checkpoint<A extends readonly unknown[], R extends Tensor | readonly Tensor[]>(
  fn: (...args: A) => R,
  options: { captures?: Iterable<Tensor> } = {},
): (...args: A) => R {
  return (...args: A): R => {
    const outer = liveTraces();
    const used = new Set<Tensor>(leaves(args));
    let discovered: R | null = null;
    if (options.captures) {
      for (const tensor of options.captures) used.add(tensor);
    } else {
      discovered = withInputFilter(
        (input) => {
          if (!outer.has(input._traced!.trace)) return input;
          used.add(input);
          return input._primal();
        },
        () => fn(...args),
      );
    }
    const inputs = [...used];
    const given = new Set<Tensor>(leaves(args));
    // What the function closed over when it first ran; it must meet the same tensors when run again.
    let closedOver = discovered === null ? null : inputs.filter((input) => input._traced && !given.has(input));
    let single = discovered === null || isTensor(discovered);
    if (discovered !== null && inputs.every((input) => !input._traced)) return discovered;

    const run: Run = (values) => {
      const allowed = new Set(values.flatMap((value) => tracesOf(value)));
      const substitute = new Map(inputs.map((input, i) => [input, values[i]!]));
      const met = new Set<Tensor>();
      const result = withInputFilter(
        (input) => {
          const value = substitute.get(input);
          if (value) {
            met.add(input);
            return value;
          }
          if (outer.has(input._traced!.trace) && !allowed.has(input._traced!.trace)) {
            throw new AutogradError('checkpoint', 'the function uses a traced tensor that `captures` does not name');
          }
          return input;
        },
        () => fn(...(mapTree(args, (x) => substitute.get(x) ?? x) as unknown as A)),
      );
      closedOver ??= [...met];
      if (closedOver.some((input) => !met.has(input))) {
        throw new AutogradError(
          'checkpoint',
          'run again, the function did not meet a tensor it had closed over; pass parameters that stand in for a ' +
            "module's own (functionalCall) as arguments",
        );
      }
      single = isTensor(result);
      return toArray(result);
    };
    const ready = discovered === null ? null : toArray(discovered);
    const outputs = applyOp(recomputed(run, ready), inputs, undefined) as Tensor[];
    return (single ? outputs[0]! : outputs) as R;
  };
}

function toArray(result: Tensor | readonly Tensor[]): Tensor[] {
  return isTensor(result) ? [result] : [...result];
}

function tracesOf(x: Tensor): Trace[] {
  const traces: Trace[] = [];
  for (let at = x; at._traced; at = at._traced.primal) traces.push(at._traced.trace);
  return traces;
}

// A function as one op, which saves its inputs. `ready`, if given, is its value on the inputs' plain values.
function recomputed(run: Run, ready: Tensor[] | null): Op {
  return {
    name: 'checkpoint',
    evaluate: (values: Values) => ready ?? run(values as Tensor[]),
    vjp: (cotangents: Values, { inputs, needs }) => {
      const wanted = inputs.filter((_, i) => needs[i]) as Tensor[];
      const [, pullback] = vjp((...variables: Tensor[]) => {
        let next = 0;
        return run(inputs.map((input, i) => (needs[i] ? variables[next++]! : input!)));
      }, wanted);
      try {
        const found = pullback(cotangents as Tensor[]) as Tensor[];
        let next = 0;
        return needs.map((need) => (need ? found[next++]! : null));
      } finally {
        pullback.dispose();
      }
    },
    jvp: (primals: Values, tangents: Values) => {
      // Value and derivative are one function of primals and tangents, and that function is checkpointed in turn.
      const moving = [...tangents.keys()].filter((i) => tangents[i] !== null);
      const both: Run = (values) => {
        const directions: (Tensor | null)[] = tangents.map(() => null);
        for (const [k, i] of moving.entries()) directions[i] = values[primals.length + k]!;
        const [out, derivative] = jvp((...xs: Tensor[]) => run(xs), values.slice(0, primals.length), directions);
        return [...out, ...derivative];
      };
      const inputs = [...primals, ...moving.map((i) => tangents[i]!)];
      const results = applyOp(recomputed(both, null), inputs, undefined) as Tensor[];
      return [results.slice(0, results.length / 2), results.slice(results.length / 2)];
    },
  };
}
