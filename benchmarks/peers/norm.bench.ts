// RMS normalisation with its tangent, alone and followed by the backward of both, beside PyTorch and JAX.
import { jvp, randn, rmsNorm, type Tensor, vjp } from '../../lib';
import { inJax, inPyTorch, type Peers } from '../baselines/peers';
import type { Group } from '../cpu';

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
    const both = () => {
      const [, pull] = vjp(withTangent, [x, tx]) as unknown as [Tensor[], (cotangents: Tensor[]) => Tensor[]];
      return pull([g, h]);
    };
    const [y, ty] = forward() as [Tensor, Tensor];
    const [gx, gtx] = both() as [Tensor, Tensor];
    const [alone, followed] = ['with tangent', 'with tangent, then backward of both'];
    const bytes = 4 * rows * width;
    const beside = (peerOf: string, times: number, options: object, ours: Record<string, Tensor>) =>
      peers.python(
        { peerOf, bytes: times * bytes },
        [...inPyTorch('norm', options), inJax('norm', options)],
        inputs,
        new Map(Object.entries(ours)),
      );
    yield {
      title: `rmsNorm ${rows} × ${width}`,
      subjects: [
        { name: alone, run: forward, bytes: 4 * bytes },
        ...(await beside(alone, 4, {}, { y, ty })),
        { name: followed, run: both, bytes: 10 * bytes },
        ...(await beside(followed, 10, { backward: true }, { gx, gtx })),
      ],
      done: () => peers.clear(),
    };
  }
}
