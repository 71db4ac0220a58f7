// Products of bfloat16 in every arrangement that linear layers and batches have, against the same in float64.
import { features, Generator, matmul, randn, type Tensor } from '../../lib';
import { linearJvp, linearJvpVjp } from '../../lib/ops/matmul';
import { relativeError } from './checkOp';

/** Relative errors of results, by name, and whether this process multiplies bfloat16 as it is. */
export function multiplyAsBFloat16() {
  const generator = new Generator(5);
  const make = (...shape: number[]) => randn(shape, { generator, dtype: 'bfloat16' });
  const errors: Record<string, number> = {};
  const compare = <T extends Tensor[]>(name: string, f: (...inputs: T) => readonly (Tensor | null)[], ...inputs: T) => {
    const wide = f(...(inputs.map((input) => input.to({ dtype: 'float64' })) as T));
    for (const [i, y] of f(...inputs).entries()) {
      if (y)
        errors[`${name}, result ${i}`] = relativeError(
          y.dataSync() as Float32Array,
          wide[i]!.dataSync() as Float64Array,
        );
    }
  };
  const [rows, inputs, outputs] = [37, 130, 71];
  const layer = [make(rows, inputs), make(outputs, inputs)] as [Tensor, Tensor];
  const tangents = [make(rows, inputs), make(outputs, inputs)] as [Tensor, Tensor];
  const [bias, tbias, g, h] = [make(outputs), make(outputs), make(rows, outputs), make(rows, outputs)];
  const all = [true, true, true, true, true, true];
  compare(
    'layer with tangents',
    (x, w, b, tx, tw, tb) => linearJvp([x, w, b], [tx, tw, tb]),
    ...layer,
    bias,
    ...tangents,
    tbias,
  );
  compare(
    'layer, input alone in motion',
    (x, w, b, tx) => linearJvp([x, w, b], [tx, null, null]),
    ...layer,
    bias,
    tangents[0],
  );
  compare(
    'layer, bias alone in motion',
    (x, w, b, tb) => linearJvp([x, w, b], [null, null, tb]),
    ...layer,
    bias,
    tbias,
  );
  compare('gradients', (x, w, tx, tw, a, b) => linearJvpVjp([x, w, tx, tw], a, b, all), ...layer, ...tangents, g, h);
  compare('gradients of values', (x, w, a) => linearJvpVjp([x, w, null, null], a, null, all), ...layer, g);
  for (const [a, b] of [
    [
      [2, 3, 4, 5],
      [3, 5, 6],
    ],
    [
      [2, 1, 4, 33],
      [3, 33, 6],
    ],
    [
      [5, 4, 3],
      [3, 7],
    ],
    [
      [4, 3],
      [5, 3, 7],
    ],
    [
      [1, 1],
      [1, 1],
    ],
  ] as const) {
    compare(`batches of ${a} and ${b}`, (x, y) => [matmul(x, y)], make(...a), make(...b));
    compare(
      `batches of ${a} and ${b}, both transposed`,
      (x, y) => [matmul(x.transpose(-2, -1), y.transpose(-2, -1), { transposeA: true, transposeB: true })],
      make(...a),
      make(...b),
    );
  }
  return { bfloat16: features().bfloat16, errors };
}
