// How weights start.

import { tidy } from '../memory';
import { matmul } from '../ops/matmul';
import { type Generator, rand, randn } from '../random';
import type { Tensor } from '../tensor';

/** Uniform with the variance 2 / (in + out) (Glorot and Bengio 2010). -> [out, in] */
export function xavierUniform(outputs: number, inputs: number, generator?: Generator): Tensor {
  const bound = Math.sqrt(6 / (inputs + outputs));
  return rand([outputs, inputs], { low: -bound, high: bound, generator });
}

/** The largest singular value of weight [out, in], by power iteration. */
export function spectralNorm(weight: Tensor, iterations = 30): number {
  return tidy(() => {
    let v = weight.mul(0).add(1).slice([0, 0], [1, weight.shape[1]!]);
    for (let i = 0; i < iterations; i++) {
      const u = matmul(v, weight, { transposeB: true });
      const next = matmul(u.div(u.square().sum().sqrt()), weight);
      v = next.div(next.square().sum().sqrt());
    }
    return matmul(v, weight, { transposeB: true }).square().sum().sqrt().itemSync();
  });
}

/** Xavier-normal divided by its spectral norm: every layer starts 1-Lipschitz (arXiv 2511.19797). -> [out, in] */
export function spectralNormal(outputs: number, inputs: number, generator?: Generator): Tensor {
  return tidy(() => {
    const weight = randn([outputs, inputs], { generator }).mul(Math.sqrt(2 / (inputs + outputs)));
    return weight.div(spectralNorm(weight));
  });
}
