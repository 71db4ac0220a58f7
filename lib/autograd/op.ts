// One operation: what it computes and how it is differentiated, kept together.
import { AutogradError } from '../errors';
import { tidy } from '../memory';
import { Tensor } from '../tensor';
import type { Trace } from './trace';

type MaybeTensor = Tensor | null;

/** What a `vjp` rule is given. */
export interface VjpContext<A> {
  /** The inputs' values. Those the op does not save may be disposed: only their shape and dtype can be relied on. */
  inputs: readonly MaybeTensor[];
  /** The outputs' values, likewise. */
  outputs: readonly MaybeTensor[];
  attributes: A;
  /** Which inputs' cotangents are wanted; the rule may return null for the others. */
  needs: readonly boolean[];
}

export interface OpDefinition<A> {
  /** Computes the outputs: handles in, handles out. Null stands for an absent tensor. */
  forward(inputs: readonly (number | null)[], attributes: A): number | readonly (number | null)[];
  /**
   * From the outputs' cotangents (null: zero) to one cotangent per input (null: zero or not needed). Built from ops
   * only, so that it can itself be differentiated.
   */
  vjp?(cotangents: readonly MaybeTensor[], context: VjpContext<A>): readonly MaybeTensor[];
  /**
   * From the inputs' values and tangents (null: zero; not all are) to outputs and their tangents. Built from ops only:
   * a value taken otherwise would silently lose its gradient.
   */
  jvp?(
    primals: readonly MaybeTensor[],
    tangents: readonly MaybeTensor[],
    attributes: A,
  ): [outputs: MaybeTensor | readonly MaybeTensor[], tangents: MaybeTensor | readonly MaybeTensor[]];
  /** The same function in plainer ops. Differentiated where a rule above is absent; the tests' oracle. */
  composition?(inputs: readonly MaybeTensor[], attributes: A): MaybeTensor | readonly MaybeTensor[];
  /** What `vjp` reads the values of. Default 'inputs'. The less, the less memory a tape holds. */
  saves?: 'inputs' | 'outputs' | 'both' | 'none';
  /** No derivative by nature (comparisons, argmax): results are constants to every trace. */
  constant?: boolean;
  /** The output is of its inputs' shape, dtype and device wherever all of them are of the same. Default false. */
  elementwise?: boolean;
}

// biome-ignore lint/suspicious/noExplicitAny: an op is stored beside others whose attributes differ
export interface Op<A = any> extends Omit<OpDefinition<A>, 'forward'> {
  readonly name: string;
  /** Computes the outputs from plain tensors. */
  evaluate(inputs: readonly MaybeTensor[], attributes: A): MaybeTensor[];
}

/** Applies an operation to `inputs` and `attributes`. Name it where an op's own rules use the op. */
export type Apply<A = undefined> = (inputs: readonly MaybeTensor[], attributes: A) => Tensor[];

/**
 * Defines a differentiable operation and returns the function that applies it to `inputs` and `attributes`, under
 * whatever gradients and derivatives are in progress. The result is an array where `forward` gives one.
 */
export function defineOp<A = undefined>(name: string, definition: OpDefinition<A>): Apply<A> {
  const { forward, ...rules } = definition;
  const evaluate = (inputs: readonly MaybeTensor[], attributes: A): MaybeTensor[] => {
    const result = forward(handlesOf(inputs), attributes);
    if (typeof result === 'number') return [new Tensor(result, null, rules.elementwise ? alike(inputs) : null)];
    return result.map((h) => (h === null ? null : new Tensor(h)));
  };
  const op: Op<A> = { name, evaluate, ...rules };
  return (inputs, attributes) => applyOp(op, inputs, attributes) as Tensor[];
}

/** @internal While set, traced inputs are replaced before an op sees them (`checkpoint` uses it). */
export type InputFilter = (input: Tensor) => Tensor;
let inputFilter: InputFilter | null = null;

/** @internal */
export function withInputFilter<T>(filter: InputFilter, fn: () => T): T {
  const outer = inputFilter;
  inputFilter = outer ? (input) => filterTraced(outer, filter(input)) : filter;
  try {
    return fn();
  } finally {
    inputFilter = outer;
  }
}

function filterTraced(filter: InputFilter, input: Tensor): Tensor {
  return input._traced ? filter(input) : input;
}

/** @internal Every operation goes through here. */
export function applyOp(op: Op, given: readonly MaybeTensor[], attributes: unknown): MaybeTensor[] {
  let inputs = given;
  if (inputFilter) {
    const filter = inputFilter;
    inputs = given.map((input) => (input instanceof Tensor && input._traced ? filter(input) : input));
  }
  let top: Trace | null = null;
  for (const input of inputs) {
    const trace = input instanceof Tensor ? input._traced?.trace : undefined;
    if (trace && (top === null || trace.level > top.level)) top = trace;
  }
  if (top !== null) {
    if (!top.active) {
      throw new AutogradError(op.name, 'an input was traced by a gradient or derivative that has already returned');
    }
    return top.process(op, inputs, attributes);
  }
  return op.evaluate(inputs, attributes);
}

// What is not a tensor goes to the addon as text, which it refuses with the argument's name; a number must not pass as
// a handle.
function handleOf(input: MaybeTensor): number | null {
  if (input instanceof Tensor) return input._handle;
  if (input === null || input === undefined) return null;
  return String(input) as unknown as number;
}

// Literals for what ops mostly take: `map` makes an array of small integers first, and handles soon are not.
function handlesOf(inputs: readonly MaybeTensor[]): (number | null)[] {
  if (inputs.length === 1) return [handleOf(inputs[0]!)];
  if (inputs.length === 2) return [handleOf(inputs[0]!), handleOf(inputs[1]!)];
  return inputs.map(handleOf);
}

/** One of tensors that are all of one shape, dtype and device; null where they are not. */
function alike(inputs: readonly MaybeTensor[]): Tensor | null {
  const [first] = inputs;
  if (!first) return null;
  for (let i = 1; i < inputs.length; i++) if (!inputs[i] || !first._isLike(inputs[i]!)) return null;
  return first;
}

/** @internal Results of rules are single or many. */
export function asArray(result: MaybeTensor | readonly MaybeTensor[]): readonly MaybeTensor[] {
  return Array.isArray(result) ? result : [result as MaybeTensor];
}

/** @internal Runs a rule so that its temporaries go as soon as it returns. */
export function runRule<T>(rule: () => T): T {
  return tidy(rule);
}
