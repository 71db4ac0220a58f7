// RMS and layer normalisation with their tangents, and the backward of both, in bytes: every tensor read or written once.
import { copy, randn, type Tensor } from '../../lib';
import { layerNorm, layerNormJvp, layerNormJvpVjp } from '../../lib/ops/layerNorm';
import { rmsNorm, rmsNormJvp, rmsNormJvpVjp } from '../../lib/ops/norm';
import type { Subject } from '../support/measure';

export function* groups(): Iterable<{ title: string; subjects: Subject[] }> {
  for (const [rows, width] of [
    [65536, 256],
    [16384, 1152],
    [512, 96],
  ] as const) {
    const [x, tx, g, h] = Array.from({ length: 4 }, () => randn([rows, width])) as [Tensor, Tensor, Tensor, Tensor];
    const weight = randn([width]);
    const tensorBytes = 4 * rows * width;
    yield {
      title: `${rows} × ${width} float32`,
      subjects: [
        // Beside them: what moving this much memory costs at all.
        { name: 'copy', run: () => copy(x), bytes: 2 * tensorBytes },
        { name: 'rmsNorm', run: () => rmsNorm(x, weight), bytes: 2 * tensorBytes },
        { name: 'rmsNorm with tangent', run: () => rmsNormJvp([x, weight], [tx, null]), bytes: 4 * tensorBytes },
        {
          name: 'backward of both',
          run: () => rmsNormJvpVjp([x, weight, tx, null], g, h, [true, true, true, false]),
          bytes: 6 * tensorBytes,
        },
        { name: 'layerNorm', run: () => layerNorm(x), bytes: 2 * tensorBytes },
        {
          name: 'layerNorm with tangent',
          run: () => layerNormJvp([x, null, null], [tx, null, null]),
          bytes: 4 * tensorBytes,
        },
        {
          name: 'backward of both, layerNorm',
          run: () => layerNormJvpVjp([x, null, tx, null], g, h, [true, false, false, true, false, false]),
          bytes: 6 * tensorBytes,
        },
      ],
    };
  }
}
