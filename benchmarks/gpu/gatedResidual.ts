// The gated residual at the sizes of DiT-XL/2: many samples, and one whose tokens blocks must share.
import { gatedResidual as gated, jvp, type Tensor } from '../../lib';
import { type BenchmarkDType, bytesOf, dtypes, type Group, maker, type Scale, tokensOf } from './group';

type Size = readonly [samples: number, tokens: number, width: number];

function group({ device }: Scale, dtype: BenchmarkDType, [samples, tokens, width]: Size): Group {
  const tensor = bytesOf[dtype] * samples * tokens * width;
  const vector = bytesOf[dtype] * samples * width;
  return {
    family: 'gatedResidual',
    title: `gatedResidual, [${samples}, ${tokens}, ${width}] ${dtype}`,
    memory: 8 * tensor,
    short: dtype === 'bfloat16',
    make: () => {
      const { held, normal, pullback } = maker(device, dtype);
      const inputs = () => [
        normal([samples, tokens, width]),
        normal([samples, width]),
        normal([samples, tokens, width]),
      ];
      const [primals, tangents] = [inputs(), inputs()];
      const [g, h] = [normal([samples, tokens, width]), normal([samples, tokens, width])];
      const f = (...[x, gate, z]: Tensor[]) => gated(x!, gate!, z!);
      const one = pullback(f, primals);
      const both = pullback((...at: Tensor[]) => jvp(f, at.slice(0, 3), at.slice(3)), [...primals, ...tangents]);
      const subjects = [
        { name: 'value', run: () => f(...primals), bytes: 3 * tensor + vector },
        { name: 'value with tangent', run: () => jvp(f, primals, tangents), bytes: 6 * tensor + 2 * vector },
        // The cotangents of x are those of the results.
        { name: 'backward', run: () => one(g), bytes: 3 * tensor + 2 * vector },
        { name: 'backward of both', run: () => both([g, h]), bytes: 6 * tensor + 4 * vector },
      ];
      return { subjects, held };
    },
  };
}

export const gatedResidual = (scale: Scale): Group[] => {
  const sizes: Size[] = scale.toy
    ? [
        [2, 5, 40],
        [1, 300, 8],
      ]
    : [
        [tokensOf(scale) / 256, 256, 1152],
        [1, tokensOf(scale), 1152],
      ];
  return dtypes.flatMap((dtype) => sizes.map((size) => group(scale, dtype, size)));
};
