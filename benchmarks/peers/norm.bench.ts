// RMS normalisation with its tangent, alone and followed by the backward of both, beside PyTorch, JAX
// and jax-js.
import { jvp, randn, rmsNorm, type Tensor } from '../../lib';
import { inJax, inPyTorch, type Peers } from '../baselines/peers';
import type { Group } from '../cpu';
import { gradientsBehind } from '../support/gradients';

const sizes: readonly (readonly [rows: number, width: number])[] = [
  [16384, 1152],
  [512, 96],
];

const normalize = (x: Tensor) => rmsNorm(x, null);

function withTangent(x: Tensor, tx: Tensor): Tensor[] {
  return jvp(normalize, [x], [tx]) as Tensor[];
}

export async function* groups(peers: Peers, shapes = sizes): AsyncIterable<Group> {
  for (const [rows, width] of shapes) {
    const inputs = new Map(['x', 'tx', 'g', 'h'].map((name) => [name, randn([rows, width])]));
    const [x, tx, g, h] = [...inputs.values()] as [Tensor, Tensor, Tensor, Tensor];
    const forward = () => withTangent(x, tx);
    const both = () => gradientsBehind((a, ta) => withTangent(a!, ta!), [x, tx], [g, h]);
    const [y, ty] = forward() as [Tensor, Tensor];
    const [gx, gtx] = both() as [Tensor, Tensor];
    const [alone, followed] = ['with tangent', 'with tangent, then backward of both'];
    const bytes = 4 * rows * width;
    const jaxJs = { case: 'norm', leaves: ['x', 'tx'], outputs: ['y', 'ty'] } as const;
    const beside = async (peerOf: string, times: number, backward: boolean, results: Record<string, Tensor>) => {
      const [work, ours] = [{ peerOf, bytes: times * bytes }, new Map(Object.entries(results))];
      const options = { backward };
      return [
        ...(await peers.python(work, [...inPyTorch('norm', options), inJax('norm', options)], inputs, ours)),
        ...(await peers.jaxJs(work, { ...jaxJs, ...(backward ? { cotangents: ['g', 'h'] } : {}) }, inputs, ours)),
      ];
    };
    yield {
      title: `rmsNorm ${rows} × ${width}`,
      subjects: [
        { name: alone, run: forward, bytes: 4 * bytes },
        ...(await beside(alone, 4, false, { y, ty })),
        { name: followed, run: both, bytes: 10 * bytes },
        ...(await beside(followed, 10, true, { gx, gtx })),
      ],
      done: () => peers.clear(),
    };
  }
}
