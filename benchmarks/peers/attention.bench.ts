// Attention with its tangent, alone and followed by the backward of both, beside PyTorch (eager forward mode over the plain
// composition, and the same composed by hand) and a hand-written graph in onnxruntime.
import { jvp, attention as op, randn, type Tensor, vjp } from '../../lib';
import { type AttentionShape, attentionGraph } from '../baselines/onnxAttention';
import type { Peers } from '../baselines/peers';
import type { Group } from '../cpu';
import type { Subject } from '../support/measure';

const shapes: Record<string, AttentionShape> = {
  'B 2, H 8, S 1024, D 64': { batch: 2, heads: 8, tokens: 1024, dim: 64 },
  'B 1, H 4, S 4096, D 64': { batch: 1, heads: 4, tokens: 4096, dim: 64 },
  'B 64, H 8, S 49, D 32': { batch: 64, heads: 8, tokens: 49, dim: 32 },
};

const inputNames = ['q', 'k', 'v', 'tq', 'tk', 'tv'] as const;

function withTangent(...[q, k, v, tq, tk, tv]: Tensor[]): Tensor[] {
  return jvp(op, [q!, k!, v!], [tq!, tk!, tv!]) as Tensor[];
}

export async function* groups(peers: Peers): AsyncIterable<Group> {
  for (const [title, shape] of Object.entries(shapes)) {
    const { batch, heads, tokens, dim } = shape;
    const make = () => randn([batch, heads, tokens, dim]);
    const inputs = new Map<string, Tensor>([...inputNames, 'g', 'h'].map((name) => [name, make()]));
    const leaves = inputNames.map((name) => inputs.get(name)!);
    const forward = () => withTangent(...leaves);
    const both = () => {
      const [, pull] = vjp(withTangent, leaves) as unknown as [Tensor[], (cotangents: Tensor[]) => Tensor[]];
      return pull([inputs.get('g')!, inputs.get('h')!]);
    };
    const product = 2 * tokens * tokens * dim * batch * heads;
    const outputs = forward();
    const gradients = both();
    const forwards = new Map(['o', 'to'].map((name, i) => [name, outputs[i]!]));
    const backwards = new Map(inputNames.map((name, i) => [`g${name}`, gradients[i]!]));
    const leafMap = new Map(inputNames.map((name) => [name, inputs.get(name)!]));

    const alone = 'with tangent';
    const followed = 'with tangent, then backward of both';
    const subjects: Subject[] = [{ name: alone, run: forward, flops: 6 * product }];
    const hand = { byHand: true };
    const f = { peerOf: alone, flops: 6 * product };
    subjects.push(
      ...(await peers.pytorchSubject({ ...f, name: '  PyTorch, forward mode' }, ['attention', {}], leafMap, forwards)),
      ...(await peers.pytorchSubject({ ...f, name: '  PyTorch, by hand' }, ['attention', hand], leafMap, forwards)),
      ...(await peers.onnxSubject(
        { ...f, name: '  onnxruntime, hand-written graph' },
        attentionGraph(shape, false),
        leafMap,
        forwards,
      )),
    );
    const b = { peerOf: followed, flops: 21 * product };
    const backward = { backward: true };
    subjects.push(
      { name: followed, run: both, flops: 21 * product },
      ...(await peers.pytorchSubject(
        { ...b, name: '  PyTorch, forward mode' },
        ['attention', backward],
        inputs,
        backwards,
      )),
      ...(await peers.pytorchSubject(
        { ...b, name: '  PyTorch, by hand' },
        ['attention', { ...backward, ...hand }],
        inputs,
        backwards,
      )),
      ...(await peers.onnxSubject(
        { ...b, name: '  onnxruntime, hand-written graph' },
        attentionGraph(shape, true),
        inputs,
        backwards,
      )),
    );
    yield { title, subjects, done: () => peers.clear() };
  }
}
