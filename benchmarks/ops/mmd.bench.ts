// The maximum mean discrepancy, in bytes: particles read once, gradients written once; beside a copy that moves as many.
import { copy, mmd, ones, randn, slice, type Tensor, tidy, valueAndGrad } from '../../lib';
import { itemSize } from '../../lib/dtype';
import { mmdVjp } from '../../lib/ops/mmd';
import type { Group } from '../cpu';
import { errorBeside, toFloat64 } from '../support/error';
import type { Setting, Takes } from '../support/setting';

export const takes: Takes = { dtype: true, shapes: [] };

const options = { kernel: 'laplace' } as const;

// Groups do not know each other: the first of them stand for all.
const checked = 8;

export function* groups({ dtype }: Setting): Iterable<Group> {
  for (const [count, particles, dim] of [
    [512, 4, 4096],
    [512, 16, 4096],
    [2, 4, 262144],
  ] as const) {
    const shape = [count, particles, dim];
    const x = randn(shape, { dtype });
    const y = tidy(() => randn(shape, { dtype }).mul(1e-3).add(x));
    const bytes = itemSize[dtype] * count * particles * dim;
    const moved = ones([1.5 * count * particles * dim], { dtype });
    const gradient = valueAndGrad((at: Tensor) => mmd(at, y, options).sum());
    const few = Math.min(checked, count);
    const first = (z: Tensor | null) => z && slice(z, [0, 0, 0].slice(0, z.rank), [few, ...z.shape.slice(1)]);
    const error = (work: (a: Tensor, b: Tensor) => readonly (Tensor | null)[]) =>
      errorBeside(
        () => work(x, y).map(first),
        () => work(toFloat64(first(x)!), toFloat64(first(y)!)),
      );
    const value = (a: Tensor, b: Tensor) => [mmd(a, b, options)];
    const ofX = (a: Tensor, b: Tensor) => mmdVjp(a, b, null, options, [true, false]);
    const ofBoth = (a: Tensor, b: Tensor) => mmdVjp(a, b, null, options);
    yield {
      title: `${count} groups of ${particles} + ${particles} particles of ${dim} ${dtype}`,
      subjects: [
        { name: 'copy of the bytes of value and gradient', run: () => copy(moved), bytes: 3 * bytes },
        { name: 'value', run: () => value(x, y), bytes: 2 * bytes, error: error(value) },
        { name: 'value and gradient of x', run: () => ofX(x, y), bytes: 3 * bytes, error: error(ofX) },
        { name: 'value and gradient of x and y', run: () => ofBoth(x, y), bytes: 4 * bytes, error: error(ofBoth) },
        { name: 'the same of x by valueAndGrad', run: () => gradient(x), bytes: 3 * bytes },
      ],
    };
  }
}
