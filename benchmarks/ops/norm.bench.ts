// RMS and layer normalisation with their tangents, and the backward of both, in bytes: every tensor read or written once.
import { copy, randn, slice, type Tensor } from '../../lib';
import { itemSize } from '../../lib/dtype';
import { layerNorm, layerNormJvp, layerNormJvpVjp } from '../../lib/ops/layerNorm';
import { rmsNorm, rmsNormJvp, rmsNormJvpVjp } from '../../lib/ops/norm';
import type { Group } from '../cpu';
import { rowsOnCpu } from '../presets';
import { errorBeside, toFloat64 } from '../support/error';
import type { Subject } from '../support/measure';
import type { Setting, Takes } from '../support/setting';

export const takes: Takes = { dtype: true, shapes: ['dit-xl-2', 'wan', 'digits'] };

const own = [
  { rows: 65536, width: 256, text: '65536' },
  { rows: 16384, width: 1152, text: '16384' },
  { rows: 512, width: 96, text: '512' },
];

type Results = readonly (Tensor | null)[];
/** Over x, its tangent, the cotangents of value and tangent, and the weight. */
type Work = (x: Tensor, tx: Tensor, g: Tensor, h: Tensor, weight: Tensor) => Results;

const works: [name: string, tensors: number, work: Work][] = [
  ['rmsNorm', 2, (x, _tx, _g, _h, weight) => [rmsNorm(x, weight)]],
  ['rmsNorm with tangent', 4, (x, tx, _g, _h, weight) => rmsNormJvp([x, weight], [tx, null])],
  [
    'backward of both',
    6,
    (x, tx, g, h, weight) => rmsNormJvpVjp([x, weight, tx, null], g, h, [true, true, true, false]),
  ],
  ['layerNorm', 2, (x) => [layerNorm(x)]],
  ['layerNorm with tangent', 4, (x, tx) => layerNormJvp([x, null, null], [tx, null, null])],
  [
    'backward of both, layerNorm',
    6,
    (x, tx, g, h) => layerNormJvpVjp([x, null, tx, null], g, h, [true, false, false, true, false, false]),
  ],
];

// Rows do not know each other, but for the gradient of the weight, which is left out: these stand for all.
const checked = 256;

export function* groups({ dtype, shapes }: Setting): Iterable<Group> {
  const preset = shapes && rowsOnCpu(shapes);
  for (const { rows, width, text } of preset ? [preset] : own) {
    const inputs = Array.from({ length: 4 }, () => randn([rows, width], { dtype }));
    const weight = randn([width], { dtype });
    const bytes = itemSize[dtype] * rows * width;
    const first = (x: Tensor) => slice(x, [0, 0], [Math.min(checked, rows), width]);
    const subjects = works.map(([name, tensors, work]): Subject => {
      const [x, tx, g, h] = inputs as [Tensor, Tensor, Tensor, Tensor];
      const perRow = (results: Results) => results.filter((y) => y?.rank === 2);
      return {
        name,
        run: () => work(x, tx, g, h, weight),
        bytes: tensors * bytes,
        error: errorBeside(
          () => perRow(work(x, tx, g, h, weight)).map((y) => first(y!)),
          () => {
            const [a, ta, ga, ha] = inputs.map((y) => toFloat64(first(y))) as [Tensor, Tensor, Tensor, Tensor];
            return perRow(work(a, ta, ga, ha, toFloat64(weight)));
          },
        ),
      };
    });
    yield {
      title: `${text} × ${width} ${dtype}`,
      // Beside them: what moving this much memory costs at all.
      subjects: [{ name: 'copy', run: () => copy(inputs[0]!), bytes: 2 * bytes }, ...subjects],
    };
  }
}
