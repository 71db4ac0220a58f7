// The maximum mean discrepancy at the size of Inductive Moment Matching on 32 × 32 latents, groups of 4 + 4 particles; and
// on 64 × 64 latents, where a group takes a cluster of blocks (of 4 in float32, of 2 in 16 bits, on an H100).
import { mmd as discrepancy } from '../../lib';
import { mmdVjp } from '../../lib/ops/mmd';
import { bytesOf, dtypes, type Group, maker, type Scale } from './group';

const options = { kernel: 'laplace' } as const;

export function mmd({ device, toy }: Scale): Group[] {
  const sizes = toy
    ? ([
        [3, 4, 40],
        [2, 4, 72],
      ] as const)
    : ([
        [2048, 4, 4096],
        [512, 4, 16384],
      ] as const);
  return sizes.flatMap(([count, particles, dim], i) =>
    dtypes.map((dtype) => {
      const tensor = bytesOf[dtype] * count * particles * dim;
      return {
        family: 'mmd',
        title: `mmd, ${count} groups of ${particles} + ${particles} particles of ${dim} ${dtype}`,
        memory: 4 * tensor,
        short: i === 0,
        make: () => {
          const { held, normal } = maker(device, dtype);
          const [x, y] = [normal([count, particles, dim]), normal([count, particles, dim])];
          const subjects = [
            { name: 'value', run: () => discrepancy(x, y, options), bytes: 2 * tensor },
            {
              name: 'value and gradient of x',
              run: () => mmdVjp(x, y, null, options, [true, false]),
              bytes: 3 * tensor,
            },
            { name: 'value and gradients', run: () => mmdVjp(x, y, null, options), bytes: 4 * tensor },
          ];
          return { subjects, held };
        },
      };
    }),
  );
}
