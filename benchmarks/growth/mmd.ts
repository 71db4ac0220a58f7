// The maximum mean discrepancy as particles of a group, groups and features grow, each alone.
import { mmd, randn, tidy } from '../../lib';
import { mmdVjp } from '../../lib/ops/mmd';
import type { Group } from '../cpu';

interface Size {
  groups: number;
  particles: number;
  features: number;
}

const base: Size = { groups: 64, particles: 4, features: 4096 };

const grown: [of: keyof Size, values: readonly number[]][] = [
  ['particles', [2, 4, 8, 16, 32, 64]],
  ['groups', [8, 16, 32, 64, 128, 256, 512]],
  ['features', [256, 1024, 4096, 16384, 65536]],
];

const options = { kernel: 'laplace' } as const;

const textOf = (size: Partial<Size>) =>
  Object.entries(size)
    .map(([name, value]) => `${value} ${name}`)
    .join(', ');

export function* mmdGrowth(): Iterable<Group> {
  for (const [of, values] of grown) {
    const { [of]: _, ...others } = base;
    for (const value of values) {
      const size = { ...base, [of]: value };
      const shape = [size.groups, size.particles, size.features];
      const x = randn(shape);
      const y = tidy(() => randn(shape).mul(1e-3).add(x));
      const bytes = 4 * size.groups * size.particles * size.features;
      yield {
        title: `mmd by ${of}, ${textOf(size)}`,
        scaling: { series: `mmd, ${textOf(others)}`, variable: of, value },
        subjects: [
          { name: 'mmd', run: () => mmd(x, y, options), bytes: 2 * bytes },
          {
            name: 'mmd and gradient of x',
            run: () => mmdVjp(x, y, null, options, [true, false]),
            bytes: 3 * bytes,
          },
        ],
      };
    }
  }
}
