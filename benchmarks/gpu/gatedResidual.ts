// The gated residual at the sizes of DiT-XL/2: many samples, and one whose tokens blocks must share.
import { gatedResidual as gated, jvp, slice, type Tensor } from '../../lib';
import { errorOfFirst } from '../support/error';
import { type BenchmarkDType, bytesOf, dtypes, type Group, maker, pulled, type Scale, tokensOf } from './group';

const checked = 64; // tokens of the first sample

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
      const withTangent = (...at: Tensor[]) => jvp(f, at.slice(0, 3), at.slice(3));
      const one = pullback(f, primals);
      const both = pullback(withTangent, [...primals, ...tangents]);
      const few = Math.min(checked, tokens);
      const error = (work: (...inputs: Tensor[]) => Tensor[], ...inputs: Tensor[]) =>
        errorOfFirst(work, inputs, (x) =>
          slice(x, new Array(x.rank).fill(0), x.rank === 2 ? [1, width] : [1, few, width]),
        );
      const subjects = [
        {
          name: 'value',
          run: () => f(...primals),
          bytes: 3 * tensor + vector,
          error: error((...at) => [f(...at)], ...primals),
        },
        {
          name: 'value with tangent',
          run: () => jvp(f, primals, tangents),
          bytes: 6 * tensor + 2 * vector,
          error: error(withTangent, ...primals, ...tangents),
        },
        // The cotangents of x are those of the results.
        {
          name: 'backward',
          run: () => one(g),
          bytes: 3 * tensor + 2 * vector,
          error: error((...at) => pulled(f, at.slice(0, 3), at[3]!), ...primals, g),
        },
        {
          name: 'backward of both',
          run: () => both([g, h]),
          bytes: 6 * tensor + 4 * vector,
          error: error((...at) => pulled(withTangent, at.slice(0, 6), at.slice(6)), ...primals, ...tangents, g, h),
        },
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
