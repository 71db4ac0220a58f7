// Elementwise operations, moves and casts against copy bandwidth: bytes are each input read once and the output written.
import {
  add,
  arange,
  cast,
  concat,
  exp,
  less,
  log,
  mul,
  ones,
  permute,
  sigmoid,
  sin,
  slice,
  take,
  tanh,
  transpose,
  where,
} from '../../lib';
import type { Group } from '../cpu';

const width = 512;

function* groups(): Iterable<Group> {
  for (const rows of [64, 2048, 32768]) {
    const n = rows * width;
    const scaling = (of: string) => ({ series: `${of} on rows of ${width}`, variable: 'rows', value: rows });
    const x = add(ones([rows, width]), 0.5);
    const row = ones([width]);
    const batch = x.reshape([8, rows / 8, width]);
    const perBatch = ones([8, 1, width]);
    const narrow = cast(x, 'bfloat16');
    const half = cast(x, 'float16');
    const mask = less(x, 2);
    yield {
      scaling: scaling('arithmetic'),
      title: `arithmetic, [${rows}, ${width}] float32`,
      subjects: [
        { name: 'x + x', run: () => add(x, x), bytes: 12 * n },
        { name: 'x · 2', run: () => mul(x, 2), bytes: 8 * n },
        { name: 'x + row', run: () => add(x, row), bytes: 8 * n },
        { name: 'x · one row per batch', run: () => mul(batch, perBatch), bytes: 8 * n },
        { name: 'x + x, rows of 8', run: () => add(x.reshape([-1, 8]), ones([8])), bytes: 8 * n },
        { name: 'x + x, bfloat16', run: () => add(narrow, narrow), bytes: 6 * n },
        { name: 'x + x, float16', run: () => add(half, half), bytes: 6 * n },
        { name: 'x < x', run: () => less(x, x), bytes: 9 * n },
        { name: 'where(mask, x, 0)', run: () => where(mask, x, 0), bytes: 9 * n },
        { name: 'to bfloat16', run: () => cast(x, 'bfloat16'), bytes: 6 * n },
        { name: 'to float16', run: () => cast(x, 'float16'), bytes: 6 * n },
      ],
    };
    yield {
      scaling: scaling('functions'),
      title: `functions, [${rows}, ${width}] float32`,
      subjects: [
        { name: 'exp', run: () => exp(x), bytes: 8 * n },
        { name: 'log', run: () => log(x), bytes: 8 * n },
        { name: 'tanh', run: () => tanh(x), bytes: 8 * n },
        { name: 'sigmoid', run: () => sigmoid(x), bytes: 8 * n },
        { name: 'sin', run: () => sin(x), bytes: 8 * n },
      ],
    };
    const heads = x.reshape([8, rows / 8, 8, width / 8]);
    const ids = arange(rows);
    yield {
      scaling: scaling('moves'),
      title: `moves, [${rows}, ${width}] float32`,
      subjects: [
        { name: 'transpose', run: () => transpose(x), bytes: 8 * n },
        { name: 'heads forward', run: () => permute(heads, [0, 2, 1, 3]), bytes: 8 * n },
        { name: 'left half', run: () => slice(x, [0, 0], [rows, width / 2]), bytes: 4 * n },
        { name: 'concat of two', run: () => concat([x, x], 1), bytes: 16 * n },
        { name: 'take every row', run: () => take(x, ids), bytes: 8 * n },
      ],
    };
  }
}

export { groups };
