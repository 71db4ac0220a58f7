// The maximum mean discrepancy at the size of Inductive Moment Matching on 32 × 32 latents: groups of 4 + 4 particles.
import { mmd as discrepancy } from '../../lib';
import { mmdVjp } from '../../lib/ops/mmd';
import { bytesOf, dtypes, type Group, maker, type Scale } from './group';

const options = { kernel: 'laplace' } as const;

export function mmd({ device, toy }: Scale): Group[] {
  const [count, particles, dim] = toy ? [3, 4, 40] : [2048, 4, 4096];
  return dtypes.map((dtype) => {
    const tensor = bytesOf[dtype] * count * particles * dim;
    return {
      family: 'mmd',
      title: `mmd, ${count} groups of ${particles} + ${particles} particles of ${dim} ${dtype}`,
      memory: 4 * tensor,
      short: true,
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
  });
}
