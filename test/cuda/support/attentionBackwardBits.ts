// Prints a digest of what every kernel of attention's backward computes; test/cuda/attentionBackward.test.ts runs it in
// processes with other emulated GPUs and schedules.
import { createHash } from 'node:crypto';
import { attention, jvp, type Tensor, tensor, vjp } from '../../../lib';
import { sample } from '../../support/checkOp';

const digests: Record<string, string> = {};
const wide = [136, 256];
for (const dim of process.env.FLOWMAP_TEST_WIDE ? wide : [32, 64, 72, 96, 104, ...wide]) {
  const [queries, keys] = dim > 128 ? [70, 35] : [70, 45];
  const draw = (rows: number, seed: number) => {
    const { shape, values } = sample([1, 1, rows, dim], seed);
    return tensor(values as Float64Array, { shape, dtype: 'bfloat16', device: 'cuda' });
  };
  const operands = [queries, keys, keys, queries, keys, keys].map(draw) as Tensor[];
  const [g, h] = [draw(queries, 7), draw(queries, 8)];
  const f = (...[q, k, v]: Tensor[]) => attention(q!, k!, v!, { causal: true });
  const [, plain] = vjp(f, operands.slice(0, 3)) as unknown as [Tensor, (g: Tensor) => Tensor[]];
  const [, both] = vjp((...x: Tensor[]) => jvp(f, x.slice(0, 3), x.slice(3)), operands) as unknown as [
    Tensor[],
    (cotangents: Tensor[]) => Tensor[],
  ];
  const [, ofQueries] = vjp(
    (q: Tensor, k: Tensor, v: Tensor, tq: Tensor) => jvp((x: Tensor) => f(x, k, v), [q], [tq]),
    operands.slice(0, 4) as [Tensor, Tensor, Tensor, Tensor],
  ) as unknown as [Tensor[], typeof both];
  for (const [name, gradients] of [
    ['plain', plain(g)],
    ['queries', ofQueries([g, h])],
    ['both', both([g, h])],
  ] as const) {
    const hash = createHash('sha256');
    for (const x of gradients) hash.update(Float64Array.from(x.dataSync() as ArrayLike<number>, Number));
    digests[`${dim} wide, ${name}`] = hash.digest('hex');
  }
}
process.stdout.write(JSON.stringify(digests));
