// RMS normalisation with its tangent, alone and followed by the backward of both, beside PyTorch.
import { jvp, randn, rmsNorm, type Tensor, vjp } from '../../lib';
import type { Peers } from '../baselines/peers';
import type { Group } from '../cpu';

const normalize = (x: Tensor) => rmsNorm(x, null);

function withTangent(x: Tensor, tx: Tensor): Tensor[] {
  return jvp(normalize, [x], [tx]) as Tensor[];
}

export async function* groups(peers: Peers): AsyncIterable<Group> {
  for (const [rows, width] of [
    [16384, 1152],
    [512, 96],
  ] as const) {
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
    yield {
      title: `rmsNorm ${rows} × ${width}`,
      subjects: [
        { name: alone, run: forward, bytes: 4 * bytes },
        ...(await peers.pytorchSubject(
          { name: '  PyTorch', peerOf: alone, bytes: 4 * bytes },
          ['norm', {}],
          inputs,
          new Map([
            ['y', y],
            ['ty', ty],
          ]),
        )),
        { name: followed, run: both, bytes: 10 * bytes },
        ...(await peers.pytorchSubject(
          { name: '  PyTorch', peerOf: followed, bytes: 10 * bytes },
          ['norm', { backward: true }],
          inputs,
          new Map([
            ['gx', gx],
            ['gtx', gtx],
          ]),
        )),
      ],
      done: () => peers.clear(),
    };
  }
}
