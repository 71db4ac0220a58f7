// Results larger than the caches are written around them: the same bits as piece by piece, at widths that leave lines torn.
import {
  add,
  cast,
  concat,
  copy,
  type DType,
  emptyCache,
  full,
  gatedResidual,
  randn,
  rmsNorm,
  silu,
  slice,
  softmax,
  type Tensor,
  tidy,
} from '../../lib';
import { layerNormJvp } from '../../lib/ops/layerNorm';
import { rmsNormJvp, rmsNormJvpVjp } from '../../lib/ops/norm';

const pieces = 4;

/** Runs over whole operands and over each quarter of their rows, which is below the limit. */
function sameInPieces(rows: Tensor[], f: (...x: Tensor[]) => Tensor) {
  tidy(() => {
    const whole = f(...rows);
    const count = rows[0]!.shape[0]! / pieces;
    const part = (x: Tensor, i: number) => slice(x, [i * count], [(i + 1) * count]);
    for (let i = 0; i < pieces; i++) {
      const [got, wanted] = [part(whole, i), f(...rows.map((x) => part(x, i)))].map((x) => Buffer.from(bytesOf(x)));
      expect(Buffer.compare(got!, wanted!)).toBe(0);
    }
  });
}
const bytesOf = (x: Tensor) => {
  const { buffer, byteOffset, byteLength } = x.dataSync() as Float32Array;
  return new Uint8Array(buffer, byteOffset, byteLength);
};

afterAll(() => emptyCache());

describe.each<[DType, number, number]>([
  ['float32', 4 * 2 ** 11, 1152],
  ['float32', 4 * 21501, 99],
  ['bfloat16', 4 * 42001, 101],
])('large results of %s [%i, %i]', (dtype, rows, width) => {
  const [x, y, z] = [1, 2, 3].map(() => randn([rows, width], { dtype })) as [Tensor, Tensor, Tensor];
  const w = randn([width], { dtype });
  afterAll(() => {
    for (const t of [x, y, z, w]) t.dispose();
  });

  it.each<[string, (...x: Tensor[]) => Tensor]>([
    ['copies', (a) => copy(a)],
    ['sums', (a, b) => add(a, b)],
    ['sums with a row', (a) => add(a, w)],
    ['float32 of it', (a) => cast(a, 'float32')],
    ['int32 of it', (a) => cast(a, 'int32')],
    ['comparisons', (a) => cast(a.less(0), 'float32')],
    ['silu', (a) => silu(a)],
    ['softmax', (a) => softmax(a)],
    ['rmsNorm', (a) => rmsNorm(a, w)],
    ['rmsNorm with tangent', (a, b) => concat(rmsNormJvp([a, w], [b, w]) as Tensor[], 1)],
    ['layerNorm with tangent', (a, b) => concat(layerNormJvp([a, null, null], [b, null, null]) as Tensor[], 1)],
    [
      'backward of rmsNorm and its tangent',
      (a, b, c) => {
        const [gx, , gtx] = rmsNormJvpVjp([a, w, b, null], c, a, [true, false, true, false]);
        return concat([gx!, gtx!], 1);
      },
    ],
    [
      'gated residuals',
      (a, b) => {
        const [n] = a.shape;
        return gatedResidual(a.reshape([1, n!, width]), w.reshape([1, width]), b.reshape([1, n!, width])).reshape([
          n!,
          width,
        ]);
      },
    ],
    ['columns side by side', (a, b) => concat([a, b], 1)],
  ])('%s', (_, f) => {
    sameInPieces([x, y, z], f);
  });
});

it.each<DType>(['float32', 'bfloat16', 'bool'])('large fills of %s reach every element', (dtype) => {
  const count = 2 ** 25 + 13;
  tidy(() => {
    const bytes = bytesOf(full([count], 1, { dtype }));
    const pattern = bytesOf(full([1], 1, { dtype }));
    const wrong = bytes.findIndex((byte, i) => byte !== pattern[i % pattern.length]);
    expect([bytes.length, wrong]).toEqual([count * pattern.length, -1]);
  });
});
