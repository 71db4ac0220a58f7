// Reverse mode: records operations as they run and walks them backwards.

import { onesLike, zerosLike } from '../create';
import { AutogradError } from '../errors';
import { tidy } from '../memory';
import { add } from '../ops/elementwise';
import { Tensor } from '../tensor';
import { alias } from './alias';
import { applyOp, asArray, type Op, runRule } from './op';
import { nextLevel, type Trace } from './trace';

type MaybeTensor = Tensor | null;

interface Node {
  readonly op: Op;
  readonly attributes: unknown;
  readonly inputs: readonly MaybeTensor[];
  readonly outputs: readonly MaybeTensor[];
  /** For each input the [node, output] it came from, or null for a constant. */
  readonly parents: readonly ({ node: number; output: number } | null)[];
  readonly saved: readonly Tensor[];
}

let recording = true;

/** Runs `fn` without recording: results are constants to every tape. Tangents are still carried. */
export function noGrad<T>(fn: () => T): T {
  const outer = recording;
  recording = false;
  try {
    return fn();
  } finally {
    recording = outer;
  }
}

/**
 * A recording of operations. {@link grad}, {@link valueAndGrad} and {@link vjp} make and use one; taken by hand it
 * records what is done with the tensors passed to {@link Tape.watch} until {@link Tape.dispose}.
 */
export class Tape implements Trace {
  readonly kind = 'tape';
  active = true;
  private nodes: (Node | null)[] = [];

  /** @param level how deep in the nesting of gradients; by default deeper than everything now in progress */
  constructor(readonly level: number = nextLevel()) {}

  /** The same values, from now on a variable of this tape. */
  watch(x: Tensor): Tensor {
    this.nodes.push(null);
    return this.wrap(x, this.nodes.length - 1, 0);
  }

  process(op: Op, inputs: readonly MaybeTensor[], attributes: unknown): MaybeTensor[] {
    const values = inputs.map((input) => (this.owns(input) ? input._traced!.primal : input));
    if (!recording || op.constant) return applyOp(op, values, attributes);
    if (!op.vjp) {
      if (op.composition) return [...asArray(op.composition(inputs, attributes))];
      throw new AutogradError(op.name, 'has no gradient');
    }
    const outputs = applyOp(op, values, attributes);
    const saves = op.saves ?? 'inputs';
    const saved: Tensor[] = [];
    if (saves === 'inputs' || saves === 'both') for (const value of values) if (value) saved.push(value);
    if (saves === 'outputs' || saves === 'both') for (const value of outputs) if (value) saved.push(value);
    for (const tensor of saved) tensor._retain();
    for (const value of values) value?.shape; // cached now: the rule may want it after the values are gone
    const node = this.nodes.length;
    const parents = inputs.map((input) =>
      this.owns(input) ? { node: input._traced!.node, output: input._traced!.output } : null,
    );
    this.nodes.push({ op, attributes, inputs: values, outputs, parents, saved });
    return outputs.map((output, i) => (output === null ? null : this.wrap(output, node, i)));
  }

  /**
   * Cotangents of `sources` (variables of this tape) given those of `results`. A source that no result depends on gets
   * null. May be called more than once. New tensors belong to the caller's scope.
   */
  backward(
    results: readonly Tensor[],
    cotangents: readonly MaybeTensor[],
    sources: readonly Tensor[],
  ): (Tensor | null)[] {
    return tidy(() => {
      const pending: (MaybeTensor[] | undefined)[] = new Array(this.nodes.length);
      const give = (node: number, output: number, cotangent: Tensor) => {
        pending[node] ??= [];
        const slots = pending[node];
        const earlier = slots[output];
        if (earlier) {
          const sum = add(earlier, cotangent);
          earlier._release();
          slots[output] = sum;
          sum._retain();
        } else {
          slots[output] = cotangent;
          cotangent._retain();
        }
      };
      for (const [i, result] of results.entries()) {
        const cotangent = cotangents[i];
        if (cotangent && this.owns(result)) give(result._traced!.node, result._traced!.output, cotangent);
      }
      for (let index = this.nodes.length - 1; index >= 0; index--) {
        const node = this.nodes[index];
        const slots = pending[index];
        if (!node || !slots) continue;
        // A scope of its own: what a rule leaves behind goes at once, and cotangents go as soon as they are consumed.
        tidy(() => {
          const given = node.outputs.map((_, i) => slots[i] ?? null);
          const needs = node.parents.map((parent) => parent !== null);
          const { inputs, outputs, attributes } = node;
          const result = runRule(() => node.op.vjp!(given, { inputs, outputs, attributes, needs }));
          for (const [i, parent] of node.parents.entries()) {
            const cotangent = result[i];
            if (parent && cotangent) give(parent.node, parent.output, cotangent);
          }
        });
        for (const cotangent of slots) cotangent?._release();
        pending[index] = undefined;
      }
      const found = sources.map((source) => pending[source._traced!.node]?.[source._traced!.output] ?? null);
      // Handles of their own: a cotangent may be the caller's tensor, or one that its scope has already let go.
      const escaped = found.map((cotangent) => (cotangent ? alias(cotangent) : null));
      for (const slots of pending) for (const cotangent of slots ?? []) cotangent?._release();
      return escaped;
    });
  }

  /**
   * Gradients of `loss`, a variable of one element, by variables of this tape, in their order; zero where it does not
   * depend on one. The recording stays usable.
   */
  gradient(loss: Tensor, sources: readonly Tensor[]): Tensor[] {
    for (const x of [loss, ...sources]) {
      if (!this.owns(x)) throw new AutogradError('gradient', 'loss and sources must be variables of this tape');
    }
    if (loss.size !== 1) {
      throw new AutogradError('gradient', `loss must have one element, got shape [${loss.shape.join(', ')}]`);
    }
    return tidy(() => {
      const found = this.backward([loss], [onesLike(loss._traced!.primal)], sources);
      return found.map((g, i) => g ?? zerosLike(sources[i]!._traced!.primal));
    });
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Forgets the recording and lets go of the values it held. Its variables can no longer be used. */
  dispose(): void {
    this.active = false;
    for (const node of this.nodes) for (const tensor of node?.saved ?? []) tensor._release();
    this.nodes = [];
  }

  /** @internal */
  owns(x: MaybeTensor | undefined): x is Tensor {
    return x instanceof Tensor && x._traced?.trace === this;
  }

  private wrap(value: Tensor, node: number, output: number): Tensor {
    return new Tensor(-1, { trace: this, primal: value, tangent: null, node, output });
  }
}
