// Attention with its tangent, and the backward of both. Convention: 12 · Sq · Sk · D · B · H operations forward (6
// products), 30 backward (15); 4 and 10 for plain attention. Packed sequences beside a padded batch of them, and QKNorm inside
// attention beside QKNorm before it.
import { attention, jvp, randn, rmsNorm, type Tensor, Tensor as TensorClass, tensor, vjp } from '../../lib';
import { native } from '../../lib/native';
import { attentionSettings } from '../../lib/ops/attention';
import type { Subject } from '../support/measure';

interface Shape {
  batch: number;
  heads: number;
  tokens: number;
  dim: number;
}

const shapes: Record<string, Shape> = {
  'B 2, H 8, S 1024, D 64': { batch: 2, heads: 8, tokens: 1024, dim: 64 },
  'B 1, H 4, S 4096, D 64': { batch: 1, heads: 4, tokens: 4096, dim: 64 },
  'B 2, H 8, S 1024, D 72': { batch: 2, heads: 8, tokens: 1024, dim: 72 },
  'B 1, H 8, S 1024, D 128': { batch: 1, heads: 8, tokens: 1024, dim: 128 },
  'B 64, H 8, S 49, D 32': { batch: 64, heads: 8, tokens: 49, dim: 32 },
  'B 32, H 4, S 16, D 24': { batch: 32, heads: 4, tokens: 16, dim: 24 },
};

type Attend = (q: Tensor, k: Tensor, v: Tensor) => Tensor;

// The tangent's pass, and it with the backward of both. `product`: the operations of one of its products.
function passes(name: string, attend: Attend, shape: readonly number[], product: number): Subject[] {
  const [q, k, v, tq, tk, tv, g, h] = Array.from({ length: 8 }, () => randn(shape)) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const both = (...[a, b, c, ta, tb, tc]: Tensor[]) => jvp(attend, [a!, b!, c!], [ta, tb, tc]);
  const all = () => {
    const [, pullback] = vjp(both, [q, k, v, tq, tk, tv]);
    pullback([g, h]);
    pullback.dispose();
  };
  return [
    { name: `${name}, with tangent`, run: () => both(q, k, v, tq, tk, tv), flops: 6 * product },
    { name: `${name}, with tangent and backward`, run: all, flops: 21 * product },
  ];
}

function packedGroup(): { title: string; subjects: Subject[] } {
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
      ...passes('packed', packed, [tokens, heads, dim], product),
      ...passes('a padded batch', padded, [lengths.length, longest, heads, dim], product),
    ],
  };
}

function normGroup(): { title: string; subjects: Subject[] } {
  const [batch, heads, tokens, dim] = [2, 8, 1024, 64];
  const product = 2 * tokens * tokens * dim * batch * heads;
  const shape = [batch, heads, tokens, dim];
  return {
    title: 'QKNorm, B 2, H 8, S 1024, D 64',
    subjects: [
      ...passes('inside', (q, k, v) => attention(q, k, v, { qkNorm: true }), shape, product),
      ...passes('before', (q, k, v) => attention(rmsNorm(q), rmsNorm(k), v), shape, product),
    ],
  };
}

export function* groups(): Iterable<{ title: string; subjects: Subject[] }> {
  for (const [title, { batch, heads, tokens, dim }] of Object.entries(shapes)) {
    const make = () => randn([batch, heads, tokens, dim]);
    const [q, k, v, tq, tk, tv, g, h] = Array.from({ length: 8 }, make) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const product = 2 * tokens * tokens * dim * batch * heads;
    const wrap = (handles: readonly (number | null)[]) => handles.map((x) => (x === null ? null : new TensorClass(x)));
    const scale = 1 / Math.sqrt(dim);
    const at = (x: Tensor) => x._handle;
    const settings = attentionSettings([], {
      causal: false,
      scale,
      layout: 'BHSD',
      normalize: false,
      eps: 1e-6,
      centerKeys: false,
      deterministic: true,
    });
    const forward = () => wrap(native.attentionJvp(at(q), at(k), at(v), at(tq), at(tk), at(tv), ...settings));
    const [o, to, lse, mu] = forward() as [Tensor, Tensor, Tensor, Tensor];
    const needs = [1, 1, 1, 1, 1, 1, 0, 0];
    yield {
      title,
      subjects: [
        { name: 'attention', run: () => attention(q, k, v), flops: 2 * product },
        { name: 'attention with tangent', run: forward, flops: 6 * product },
        {
          name: 'backward of attention',
          run: () =>
            wrap(
              native.attentionJvpVjp(
                at(q),
                at(k),
                at(v),
                null,
                null,
                null,
                at(o),
                null,
                at(lse),
                null,
                at(g),
                null,
                ...settings,
                true,
                [1, 1, 1, 0, 0, 0, 0, 0],
              ),
            ),
          flops: 5 * product,
        },
        {
          name: 'backward of both',
          run: () =>
            wrap(
              native.attentionJvpVjp(
                at(q),
                at(k),
                at(v),
                at(tq),
                at(tk),
                at(tv),
                at(o),
                at(to),
                at(lse),
                at(mu),
                at(g),
                at(h),
                ...settings,
                true,
                needs,
              ),
            ),
          flops: 15 * product,
        },
      ],
    };
  }
  yield packedGroup();
  yield normGroup();
}
