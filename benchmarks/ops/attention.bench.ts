// Attention with its tangent, and the backward of both. Convention: 12 · Sq · Sk · D · B · H operations forward (6
// products), 30 backward (15); 4 and 10 for plain attention.
import { attention, randn, type Tensor, Tensor as TensorClass } from '../../lib';
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
                needs,
              ),
            ),
          flops: 15 * product,
        },
      ],
    };
  }
}
