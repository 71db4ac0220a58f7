// Activations between the two layers of DiT-XL/2's perceptron.
import { gelu, jvp, silu, type Tensor } from '../../lib';
import { bytesOf, dtypes, type Group, maker, type Scale, tokensOf } from './group';

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
          const both = pullback((at, tangent) => jvp(f, [at!], [tangent!]), [x, tx]);
          return [
            { name, run: () => f(x), bytes: 2 * tensor },
            { name: `${name} with tangent`, run: () => jvp(f, [x], [tx]), bytes: 4 * tensor },
            { name: `${name}, backward`, run: () => one(g), bytes: 3 * tensor },
            { name: `${name}, backward of both`, run: () => both([g, h]), bytes: 6 * tensor },
          ];
        });
        return { subjects, held };
      },
    };
  });
}
