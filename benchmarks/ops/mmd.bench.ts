// The maximum mean discrepancy, in bytes: particles read once, gradients written once; beside a copy that moves as many.
import { copy, mmd, ones, randn, type Tensor, tidy, valueAndGrad } from '../../lib';
import { mmdVjp } from '../../lib/ops/mmd';
import type { Subject } from '../support/measure';

const options = { kernel: 'laplace' } as const;

export function* groups(): Iterable<{ title: string; subjects: Subject[] }> {
  for (const [count, particles, dim] of [
    [512, 4, 4096],
    [512, 16, 4096],
    [2, 4, 262144],
  ] as const) {
    const shape = [count, particles, dim];
    const x = randn(shape);
    const y = tidy(() => randn(shape).mul(1e-3).add(x));
    const bytes = 4 * count * particles * dim;
    const moved = ones([1.5 * count * particles * dim]);
    const gradient = valueAndGrad((at: Tensor) => mmd(at, y, options).sum());
    yield {
      title: `${count} groups of ${particles} + ${particles} particles of ${dim} float32`,
      subjects: [
        { name: 'copy of the bytes of value and gradient', run: () => copy(moved), bytes: 3 * bytes },
        { name: 'value', run: () => mmd(x, y, options), bytes: 2 * bytes },
        { name: 'value and gradient of x', run: () => mmdVjp(x, y, null, options, [true, false]), bytes: 3 * bytes },
        { name: 'value and gradient of x and y', run: () => mmdVjp(x, y, null, options), bytes: 4 * bytes },
        { name: 'the same of x by valueAndGrad', run: () => gradient(x), bytes: 3 * bytes },
      ],
    };
  }
}
