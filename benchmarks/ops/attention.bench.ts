// Attention with its tangent, and the backward of both, by the convention of attentionPasses.ts. Packed sequences beside a
// padded batch of them, and QKNorm inside attention beside QKNorm before it.
import { attention, jvp, randn, rmsNorm, type Tensor, tensor } from '../../lib';
import { itemSize } from '../../lib/dtype';
import type { Group } from '../cpu';
import { type AttentionSize, attentionOnCpu, presetNames } from '../presets';
import { gradientsBehind } from '../support/gradients';
import type { Subject } from '../support/measure';
import type { Setting, Takes } from '../support/setting';
import { attentionSubjects } from './attentionPasses';

export const takes: Takes = { dtype: true, shapes: presetNames };

const sizes: AttentionSize[] = [
  { batch: 2, heads: 8, tokens: 1024, dim: 64 },
  { batch: 1, heads: 4, tokens: 256, dim: 64 },
  { batch: 1, heads: 4, tokens: 1024, dim: 64 },
  { batch: 1, heads: 4, tokens: 4096, dim: 64 },
  { batch: 2, heads: 8, tokens: 1024, dim: 72 },
  { batch: 1, heads: 8, tokens: 1024, dim: 128 },
  { batch: 64, heads: 8, tokens: 49, dim: 32 },
  { batch: 32, heads: 4, tokens: 16, dim: 24 },
];

function passGroup(title: string, size: AttentionSize, dtype: Setting['dtype']): Group {
  const { batch, heads, tokens, dim } = size;
  return {
    title,
    scaling: { series: `B ${batch}, H ${heads}, D ${dim}`, variable: 'tokens', value: tokens },
    subjects: attentionSubjects(size, dtype),
  };
}

type Attend = (q: Tensor, k: Tensor, v: Tensor) => Tensor;

// The tangent's pass, and it with the backward of both. `product`: the operations of one of its products.
function taped(
  name: string,
  attend: Attend,
  shape: readonly number[],
  product: number,
  dtype: Setting['dtype'],
): Subject[] {
  const tensors = Array.from({ length: 8 }, () => randn(shape, { dtype }));
  const [inputs, cotangents] = [tensors.slice(0, 6), tensors.slice(6)];
  const both = (...[a, b, c, ta, tb, tc]: Tensor[]) => jvp(attend, [a!, b!, c!], [ta, tb, tc]);
  const all = () => gradientsBehind(both, inputs, cotangents);
  const bytes = itemSize[dtype] * inputs[0]!.size;
  return [
    { name: `${name}, with tangent`, run: () => both(...inputs), flops: 6 * product, bytes: 8 * bytes },
    { name: `${name}, with tangent and backward`, run: all, flops: 21 * product, bytes: 16 * bytes },
  ];
}

function packedGroup(dtype: Setting['dtype']): Group {
  const [heads, dim] = [8, 64];
  const lengths = Array.from({ length: 16 }, (_, i) => 64 * (i + 1));
  const ends = lengths.map((_, i) => lengths.slice(0, i + 1).reduce((x, y) => x + y));
  const tokens = ends[ends.length - 1]!;
  const longest = Math.max(...lengths);
  const offsets = tensor(Int32Array.of(0, ...ends));
  const keyLengths = tensor(Int32Array.from(lengths));
  const product = lengths.reduce((sum, n) => sum + 2 * n * n * dim * heads, 0);
  const packed: Attend = (q, k, v) => attention(q, k, v, { queryOffsets: offsets, keyOffsets: offsets });
  const padded: Attend = (q, k, v) => attention(q, k, v, { layout: 'BSHD', keyLengths });
  return {
    title: '16 sequences of 64 … 1024 tokens, H 8, D 64',
    subjects: [
      ...taped('packed', packed, [tokens, heads, dim], product, dtype),
      ...taped('a padded batch', padded, [lengths.length, longest, heads, dim], product, dtype),
    ],
  };
}

function normGroup(dtype: Setting['dtype']): Group {
  const [batch, heads, tokens, dim] = [2, 8, 1024, 64];
  const product = 2 * tokens * tokens * dim * batch * heads;
  const shape = [batch, heads, tokens, dim];
  return {
    title: 'QKNorm, B 2, H 8, S 1024, D 64',
    subjects: [
      ...taped('inside', (q, k, v) => attention(q, k, v, { qkNorm: true }), shape, product, dtype),
      ...taped('before', (q, k, v) => attention(rmsNorm(q), rmsNorm(k), v), shape, product, dtype),
    ],
  };
}

export function* groups({ dtype, shapes }: Setting): Iterable<Group> {
  const titleOf = ({ batch, heads, tokens, dim }: AttentionSize) => `B ${batch}, H ${heads}, S ${tokens}, D ${dim}`;
  const wanted = shapes ? attentionOnCpu(shapes) : sizes.map((size) => ({ title: titleOf(size), size }));
  for (const { title, size } of wanted) yield passGroup(title, size, dtype);
  if (shapes) return;
  yield packedGroup(dtype);
  yield normGroup(dtype);
}
