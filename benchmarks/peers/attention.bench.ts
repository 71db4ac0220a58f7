// Attention, alone and followed by its backward; with its tangent, and followed by the backward of both. Beside PyTorch (its
// flash kernel where there is no tangent; forward mode over the plain composition, and the same composed by hand), JAX, jax-js
// and a hand-written graph in onnxruntime.
import { jvp, attention as op, randn, type Tensor } from '../../lib';
import { type AttentionShape, attentionGraph } from '../baselines/onnxAttention';
import { inJax, inPyTorch, type Peers } from '../baselines/peers';
import type { Group } from '../cpu';
import { gradientsBehind } from '../support/gradients';
import type { Subject } from '../support/measure';

const shapes: Record<string, AttentionShape> = {
  'B 2, H 8, S 1024, D 64': { batch: 2, heads: 8, tokens: 1024, dim: 64 },
  'B 1, H 4, S 4096, D 64': { batch: 1, heads: 4, tokens: 4096, dim: 64 },
  'B 64, H 8, S 49, D 32': { batch: 64, heads: 8, tokens: 49, dim: 32 },
};

type Inputs = ReadonlyMap<string, Tensor>;

const value = (...[q, k, v]: Tensor[]): Tensor[] => [op(q!, k!, v!)];
const withTangent = (...[q, k, v, tq, tk, tv]: Tensor[]): Tensor[] =>
  jvp(op, [q!, k!, v!], [tq!, tk!, tv!]) as Tensor[];

/** A function of named inputs, alone and followed by its backward: what runs, and its results by name. */
function workOf(f: (...x: Tensor[]) => Tensor[], names: readonly string[], outputs: readonly string[], inputs: Inputs) {
  const leaves = names.map((name) => inputs.get(name)!);
  const cotangents = ['g', 'h'].slice(0, outputs.length).map((name) => inputs.get(name)!);
  const forward = () => f(...leaves);
  const both = () => gradientsBehind(f, leaves, cotangents);
  const named = (tensors: readonly Tensor[], as: readonly string[]) =>
    new Map(as.map((name, i) => [name, tensors[i]!]));
  return {
    forward,
    both,
    inputs: named(leaves, names),
    outputs: named(forward(), outputs),
    gradients: named(
      both(),
      names.map((name) => `g${name}`),
    ),
  };
}

const backward = { backward: true };

/** Without a tangent: PyTorch by its own kernel, which is compiled already. */
async function plainSubjects(peers: Peers, inputs: Inputs, product: number): Promise<Subject[]> {
  const ours = workOf(value, ['q', 'k', 'v'], ['o'], inputs);
  const rows = (options: object) => [
    { peer: 'PyTorch' as const, case: 'plainAttention', options, how: 'flash' },
    inJax('plainAttention', options),
  ];
  const [alone, followed] = ['value', 'value, then backward'];
  const [flops, both] = [2 * product, 7 * product];
  return [
    { name: alone, run: ours.forward, flops },
    ...(await peers.python({ peerOf: alone, flops }, rows({}), ours.inputs, ours.outputs)),
    { name: followed, run: ours.both, flops: both },
    ...(await peers.python({ peerOf: followed, flops: both }, rows(backward), inputs, ours.gradients)),
  ];
}

async function tangentSubjects(peers: Peers, inputs: Inputs, product: number, shape: AttentionShape) {
  const [leaves, outputs] = [
    ['q', 'k', 'v', 'tq', 'tk', 'tv'],
    ['o', 'to'],
  ];
  const ours = workOf(withTangent, leaves, outputs, inputs);
  const inJaxJs = { case: 'attention', leaves, outputs } as const;
  const cotangents = ['g', 'h'];
  const rows = (options: object) => [
    ...inPyTorch('attention', options, 'forward mode'),
    ...inPyTorch('attention', { ...options, byHand: true }, 'by hand'),
    inJax('attention', options),
  ];
  const [alone, followed] = ['with tangent', 'with tangent, then backward of both'];
  const [f, b] = [
    { peerOf: alone, flops: 6 * product },
    { peerOf: followed, flops: 21 * product },
  ];
  return [
    { name: alone, run: ours.forward, flops: f.flops },
    ...(await peers.python(f, rows({}), ours.inputs, ours.outputs)),
    ...(await peers.onnx(f, () => attentionGraph(shape, false), ours.inputs, ours.outputs)),
    ...(await peers.jaxJs(f, inJaxJs, ours.inputs, ours.outputs)),
    { name: followed, run: ours.both, flops: b.flops },
    ...(await peers.python(b, rows(backward), inputs, ours.gradients)),
    ...(await peers.onnx(b, () => attentionGraph(shape, true), inputs, ours.gradients)),
    ...(await peers.jaxJs(b, { ...inJaxJs, cotangents }, inputs, ours.gradients)),
  ];
}

export async function* groups(peers: Peers, sizes = shapes): AsyncIterable<Group> {
  for (const [title, shape] of Object.entries(sizes)) {
    const { batch, heads, tokens, dim } = shape;
    const names = ['q', 'k', 'v', 'tq', 'tk', 'tv', 'g', 'h'];
    const inputs = new Map(names.map((name) => [name, randn([batch, heads, tokens, dim])]));
    const product = 2 * tokens * tokens * dim * batch * heads;
    const subjects = [
      ...(await plainSubjects(peers, inputs, product)),
      ...(await tangentSubjects(peers, inputs, product, shape)),
    ];
    yield { title, subjects, done: () => peers.clear() };
  }
}
