// Activations between the two layers of DiT-XL/2's perceptron.
import { gelu, jvp, silu, slice, type Tensor } from '../../lib';
import { errorOfFirst } from '../support/error';
import { bytesOf, dtypes, type Group, maker, pulled, type Scale, tokensOf } from './group';

const checked = 64; // rows

export function activation(scale: Scale): Group[] {
  const { device, toy } = scale;
  const [tokens, width] = toy ? [9, 40] : [tokensOf(scale), 4608];
  return dtypes.map((dtype) => {
    const tensor = bytesOf[dtype] * tokens * width;
    return {
      family: 'activation',
      title: `activations, [${tokens}, ${width}] ${dtype}`,
      memory: 6 * tensor,
      short: dtype === 'bfloat16',
      make: () => {
        const { held, normal, pullback } = maker(device, dtype);
        const [x, tx, g, h] = [1, 2, 3, 4].map(() => normal([tokens, width])) as [Tensor, Tensor, Tensor, Tensor];
        const subjects = [['gelu', gelu] as const, ['silu', silu] as const].flatMap(([name, f]) => {
          const one = pullback((at) => f(at!), [x]);
          const withTangent = (at: Tensor, tangent: Tensor) => jvp(f, [at], [tangent]);
          const both = pullback((at, tangent) => withTangent(at!, tangent!), [x, tx]);
          const error = (work: (...inputs: Tensor[]) => Tensor[], ...inputs: Tensor[]) =>
            errorOfFirst(work, inputs, (each) => slice(each, [0, 0], [Math.min(checked, tokens), width]));
          return [
            { name, run: () => f(x), bytes: 2 * tensor, error: error((at) => [f(at!)], x) },
            {
              name: `${name} with tangent`,
              run: () => withTangent(x, tx),
              bytes: 4 * tensor,
              error: error((at, tangent) => withTangent(at!, tangent!), x, tx),
            },
            {
              name: `${name}, backward`,
              run: () => one(g),
              bytes: 3 * tensor,
              error: error((at, cotangent) => pulled(f, [at!], cotangent!), x, g),
            },
            {
              name: `${name}, backward of both`,
              run: () => both([g, h]),
              bytes: 6 * tensor,
              error: error(
                (at, tangent, ...cotangents) => pulled(withTangent, [at!, tangent!], cotangents),
                x,
                tx,
                g,
                h,
              ),
            },
          ];
        });
        return { subjects, held };
      },
    };
  });
}
