// Prints a digest of what every kernel of attention's forward computes; test/cuda/attentionForward.test.ts runs it in
// processes with other emulated GPUs and schedules.
import { createHash } from 'node:crypto';
import { attention, jvp, type Tensor, tensor } from '../../../lib';
import { sample } from '../../support/checkOp';

const digests: Record<string, string> = {};
for (const dim of [32, 64, 72, 96, 104, 136, 256]) {
  const [queries, keys] = dim > 128 ? [70, 35] : [70, 77];
  for (const present of [0, 1, 3]) {
    const draw = (rows: number, seed: number) => {
      const { shape, values } = sample([1, 1, rows, dim], seed);
      return tensor(values as Float64Array, { shape, dtype: 'bfloat16', device: 'cuda' });
    };
    const [q, k, v, tq, tk, tv] = [queries, keys, keys, queries, keys, keys].map(draw) as Tensor[];
    const f = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, { causal: true });
    const made: Tensor[] =
      present === 0
        ? [f(q!, k!, v!)]
        : present === 1
          ? (jvp((a: Tensor) => f(a, k!, v!), [q!], [tq!]) as Tensor[])
          : (jvp(f as (...x: Tensor[]) => Tensor, [q!, k!, v!], [tq!, tk!, tv!]) as Tensor[]);
    const hash = createHash('sha256');
    for (const x of made) hash.update(Float64Array.from(x.dataSync() as ArrayLike<number>, Number));
    digests[`${dim} wide, ${present} tangents`] = hash.digest('hex');
  }
}
// Packed sequences, normalised and centred.
for (const dim of [64, 72, 128, 200]) {
  const draw = (_: unknown, seed: number) => {
    const { shape, values } = sample([75, 1, dim], seed);
    return tensor(values as Float64Array, { shape, dtype: 'bfloat16', device: 'cuda' });
  };
  const [q, k, v, tq, tk, tv] = Array.from({ length: 6 }, draw) as Tensor[];
  const [queryOffsets, keyOffsets] = [
    [0, 70, 70, 75],
    [0, 33, 40, 75],
  ].map((x) => tensor(Int32Array.from(x), { device: 'cuda' }));
  const options = { queryOffsets, keyOffsets, qkNorm: true, centerKeys: true };
  const f = (...[a, b, c]: Tensor[]) => attention(a!, b!, c!, options);
  const hash = createHash('sha256');
  for (const x of jvp(f, [q!, k!, v!], [tq!, tk!, tv!])) {
    hash.update(Float64Array.from(x.dataSync() as ArrayLike<number>, Number));
  }
  digests[`${dim} wide, packed`] = hash.digest('hex');
}
process.stdout.write(JSON.stringify(digests));
