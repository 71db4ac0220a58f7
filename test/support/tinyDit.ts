// A network and a batch small enough for differences in float64.
import { Generator, nn, randn, tensor } from '../../lib';
import { sample } from './checkOp';

const options: nn.DiTOptions = {
  imageSize: 4,
  patchSize: 2,
  channels: 1,
  width: 16,
  depth: 1,
  heads: 2,
  classes: 3,
  guidance: true,
};

/** All parameters drawn, those too that start at zero. */
export function makeNet(dtype: 'float32' | 'float64' | 'bfloat16', seed = 1): nn.DiT {
  const net = new nn.DiT(options).to({ dtype });
  const generator = new Generator(seed);
  net.loadStateDict(
    new Map(
      [...net.namedParameters()].map(([name, p]) => [name, randn(p.shape, { generator, dtype: 'float64' }).mul(0.3)]),
    ),
    { strict: false },
  );
  return net;
}

/** Four rows for any of the objectives; the third has s = t and no class. */
export function makeBatch(dtype: 'float32' | 'float64') {
  const at = (shape: number[], seed: number) =>
    tensor(Float64Array.from(Array.from(sample(shape, seed).values)), { shape, dtype });
  return {
    x: at([4, 1, 4, 4], 1),
    noise: at([4, 1, 4, 4], 2),
    labels: tensor(Int32Array.from([0, 2, -1, 1])),
    t: tensor([1, 0.8, 0.5, 0.6], { dtype }),
    s: tensor([0.1, 0.5, 0.5, 0], { dtype }),
    sPrime: tensor([0.3, 0.9, 0.2, 0.7], { dtype }),
    beta: tensor([0.5, 0.5, 1, 0.25], { dtype }),
  };
}
