// Reductions against copy bandwidth: bytes are the input read once.
import { add, argmax, cast, max, mean, ones, sum, sumTo } from '../../lib';
import type { Group } from '../cpu';

const width = 512;

function* groups(): Iterable<Group> {
  for (const rows of [64, 2048, 32768]) {
    const n = rows * width;
    const scaling = { series: `rows of ${width}`, variable: 'rows', value: rows };
    const x = add(ones([rows, width]), 0.5);
    const batch = x.reshape([8, rows / 8, width]);
    const narrow = cast(x, 'bfloat16');
    yield {
      scaling,
      title: `[${rows}, ${width}] float32`,
      subjects: [
        { name: 'sum of all', run: () => sum(x), bytes: 4 * n },
        { name: 'sum of all, bfloat16', run: () => sum(narrow), bytes: 2 * n },
        { name: 'sum of rows', run: () => sum(x, 1), bytes: 4 * n },
        { name: 'sum of columns', run: () => sum(x, 0), bytes: 4 * n },
        { name: 'mean of rows', run: () => mean(x, 1), bytes: 4 * n },
        { name: 'sum to one row per batch', run: () => sumTo(batch, [8, 1, width]), bytes: 4 * n },
        { name: 'largest of rows', run: () => max(x, 1), bytes: 4 * n },
        { name: 'largest of columns', run: () => max(x, 0), bytes: 4 * n },
        { name: 'argmax of rows', run: () => argmax(x), bytes: 4 * n },
        { name: 'argmax of columns', run: () => argmax(x, 0), bytes: 4 * n },
      ],
    };
  }
}

export { groups };
