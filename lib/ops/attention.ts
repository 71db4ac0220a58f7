// Scaled dot-product attention. The output and its tangent are one pass over the keys, the backward of both another, and no
// matrix of all scores ever exists, but for what the fused CUDA kernels do not take.
import { type Apply, defineOp } from '../autograd/op';
import { arange } from '../create';
import { ArgumentError } from '../errors';
import { native } from '../native';
import { Tensor } from '../tensor';
import { less, where } from './compare';
import { add, exp, log, minimum, mul, sub } from './elementwise';
import { matmul } from './matmul';
import { softmax } from './norm';
import { max, sum } from './reduce';
import { broadcastTo, permute, reshape } from './shape';

type MaybeTensor = Tensor | null;

/** How heads and tokens are ordered: [B, H, S, D] or, as a QKV projection leaves them, [B, S, H, D]. */
export type AttentionLayout = 'BHSD' | 'BSHD';

export interface AttentionOptions {
  /** Query i sees the keys up to i + Sk − Sq (bottom-right aligned). Default false. */
  causal?: boolean;
  /** Factor of q kᵀ. Default D^-½. */
  scale?: number;
  /** Default 'BHSD'. */
  layout?: AttentionLayout;
  /** How many keys of each batch row count, int32 [B]. Default all. */
  keyLengths?: Tensor | null;
}

interface Attributes {
  causal: boolean;
  scale: number;
  layout: AttentionLayout;
}

// Inputs of every op below end in keyLengths, which has no derivative.
const attentionOp: Apply<Attributes> = defineOp<Attributes>('attention', {
  forward: ([q, k, v, keyLengths], { layout, causal, scale }) =>
    native.attention(q!, k!, v!, keyLengths ?? null, layout, causal, scale),
  vjp: ([g], { inputs: [q, k, v, keyLengths], outputs: [o, lse], needs, attributes }) =>
    g
      ? attentionJvpVjpOp([q!, k!, v!, null, null, null, o!, null, lse!, null, g, null, keyLengths!], {
          ...attributes,
          needs: [needs[0]!, needs[1]!, needs[2]!, false, false, false],
        }).slice(0, 3)
      : [null, null, null, null],
  jvp: ([q, k, v, keyLengths], [tq, tk, tv], attributes) => {
    const [o, to, lse] = attentionJvpOp([q!, k!, v!, tq!, tk!, tv!, keyLengths!], attributes);
    return [
      [o!, lse!],
      [to!, null],
    ];
  },
  saves: 'both',
});

/**
 * softmax(scale · q kᵀ) v, head by head. Query heads may be a multiple of the key heads (grouped-query attention). A query
 * that sees no key gives zeros. On CUDA, float32, float64 and head sizes other than multiples of 8 up to 128 take the plain
 * composition, which is slower and writes the matrices of all scores to memory, 256 MiB at a time.
 *
 * q [B, H, Sq, D], k and v [B, Hk, Sk, D] (or, in layout 'BSHD', [B, Sq, H, D] and [B, Sk, Hk, D]) -> like q. D ≤ 256.
 *
 * @throws ShapeError, DTypeError if q, k and v do not fit; ArgumentError if scale is not finite
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { causal = false, layout = 'BHSD', keyLengths = null } = options;
  for (const key of Object.keys(options)) {
    if (!['causal', 'scale', 'layout', 'keyLengths'].includes(key)) {
      throw new ArgumentError('attention', `options must be causal, scale, layout or keyLengths, got '${key}'`);
    }
  }
  const size = q instanceof Tensor ? (q.shape[q.rank - 1] ?? 1) : 1;
  const scale = options.scale ?? 1 / Math.sqrt(size);
  return attentionOp([q, k, v, keyLengths], { causal, layout, scale })[0]!;
}

const attentionJvpOp: Apply<Attributes> = defineOp<Attributes>('attentionJvp', {
  forward: ([q, k, v, tq, tk, tv, keyLengths], { layout, causal, scale }) =>
    native.attentionJvp(q!, k!, v!, tq ?? null, tk ?? null, tv ?? null, keyLengths ?? null, layout, causal, scale),
  vjp: ([g, h], { inputs: [q, k, v, tq, tk, tv, keyLengths], outputs: [o, to, lse, mu], needs, attributes }) =>
    g || h
      ? attentionJvpVjpOp([q!, k!, v!, tq!, tk!, tv!, o!, to!, lse!, mu!, g ?? null, h ?? null, keyLengths!], {
          ...attributes,
          needs: needs.slice(0, 6),
        })
      : [null, null, null, null, null, null, null],
  composition: (inputs, attributes) => {
    const { o, to, lse, mu } = attentionComposition(inputs, attributes);
    return [o, to, lse, mu];
  },
  saves: 'both',
});

interface Backward extends Attributes {
  needs: readonly boolean[];
}

const attentionJvpVjpOp: Apply<Backward> = defineOp<Backward>('attentionJvpVjp', {
  forward: ([q, k, v, tq, tk, tv, o, to, lse, mu, g, h, keyLengths], { layout, causal, scale, needs }) =>
    native.attentionJvpVjp(
      q!,
      k!,
      v!,
      tq ?? null,
      tk ?? null,
      tv ?? null,
      o!,
      to ?? null,
      lse!,
      mu ?? null,
      g ?? null,
      h ?? null,
      keyLengths ?? null,
      layout,
      causal,
      scale,
      needs.map(Number),
    ),
  composition: attentionVjpComposition,
});

function plus(a: MaybeTensor | undefined, b: MaybeTensor | undefined): MaybeTensor {
  return a && b ? add(a, b) : (a ?? b ?? null);
}

/** Heads before tokens, and key heads repeated for their group of query heads; and back, summing over the group. */
function arranged(q: Tensor, k: Tensor, layout: AttentionLayout) {
  const inner = layout === 'BSHD';
  const turn = (x: Tensor) => (inner ? permute(x, [0, 2, 1, 3]) : x);
  const [batch, heads, , dim] = turn(q).shape as [number, number, number, number];
  const keyHeads = k.shape[inner ? 2 : 1]!;
  const keys = k.shape[inner ? 1 : 2]!;
  const group = keyHeads === 0 ? 1 : heads / keyHeads;
  return {
    query: (x: MaybeTensor | undefined) => (x ? turn(x) : null),
    key: (x: MaybeTensor | undefined) => {
      if (!x) return null;
      const one = reshape(turn(x), [batch, keyHeads, 1, keys, dim]);
      return reshape(broadcastTo(one, [batch, keyHeads, group, keys, dim]), [batch, heads, keys, dim]);
    },
    backToQuery: (x: MaybeTensor) => x && turn(x),
    backToKey: (x: MaybeTensor) => x && turn(sum(reshape(x, [batch, keyHeads, group, keys, dim]), 2)),
  };
}

// [B or 1, 1, Sq or 1, Sk], true where a query sees a key; null where all see all.
function visibility(q: Tensor, k: Tensor, keyLengths: MaybeTensor, { causal }: Attributes): Tensor | null {
  if (!causal && !keyLengths) return null;
  const { device } = q;
  const [queries, keys] = [q.shape[2]!, k.shape[2]!];
  const position = reshape(arange(0, keys, 1, { device, dtype: 'int32' }), [1, 1, 1, keys]);
  const counts: Tensor[] = []; // a query sees the keys before each of them
  if (keyLengths) counts.push(reshape(keyLengths, [q.shape[0]!, 1, 1, 1]));
  if (causal) {
    const first = 1 + keys - queries;
    counts.push(reshape(arange(first, first + queries, 1, { device, dtype: 'int32' }), [1, 1, queries, 1]));
  }
  return less(position, counts.reduce(minimum));
}

// The definition, with whole matrices: what third derivatives go through, and the tests' oracle.
function weightsOf(q: Tensor, k: Tensor, mask: Tensor | null, scale: number) {
  const scores = mul(matmul(q, k, { transposeB: true }), scale);
  // A finite minimum: a row without any key then has even weights, which the mask takes away.
  const floor = scores.dtype === 'float64' ? -1e300 : -1e30;
  const masked = mask ? where(mask, scores, floor) : scores;
  const p = softmax(masked);
  return { masked, p: mask ? where(mask, p, 0) : p };
}

function attentionComposition(inputs: readonly MaybeTensor[], attributes: Attributes) {
  const [q0, k0, v0, tq0, tk0, tv0, keyLengths] = inputs;
  const { layout, scale } = attributes;
  const { query, key, backToQuery } = arranged(q0!, k0!, layout);
  const [q, k, v, tq, tk, tv] = [query(q0)!, key(k0)!, key(v0)!, query(tq0), key(tk0), key(tv0)];
  const mask = visibility(q, k, keyLengths!, attributes);
  const { masked, p } = weightsOf(q, k, mask, scale);
  const turned = { transposeB: true };
  const t = plus(tq && mul(matmul(tq, k, turned), scale), tk && mul(matmul(q, tk, turned), scale));
  const mu = t && sum(mul(p, t), -1, { keepDims: true });
  const moved = t && matmul(mul(p, sub(t, mu!)), v);
  const to = plus(moved, tv && matmul(p, tv));
  const o = matmul(p, v);
  const top = max(masked, -1, { keepDims: true });
  const lse = reshape(add(log(sum(exp(sub(masked, top)), -1, { keepDims: true })), top), q.shape.slice(0, 3));
  return { o: backToQuery(o), to: backToQuery(to ?? mul(o, 0)), lse, mu: mu ? reshape(mu, lse.shape) : mul(lse, 0) };
}

function attentionVjpComposition(inputs: readonly MaybeTensor[], attributes: Backward): MaybeTensor[] {
  const [q0, k0, v0, tq0, tk0, tv0, , , , , g0, h0, keyLengths] = inputs;
  const { layout, scale, needs } = attributes;
  const { query, key, backToQuery, backToKey } = arranged(q0!, k0!, layout);
  const [q, k, v, tq, tk, tv] = [query(q0)!, key(k0)!, key(v0)!, query(tq0), key(tk0), key(tv0)];
  const [g, h] = [query(g0), query(h0)];
  const { p } = weightsOf(q, k, visibility(q, k, keyLengths!, attributes), scale);
  const [turned, over] = [{ transposeB: true }, { transposeA: true }];
  const rows = (x: MaybeTensor) => x && sum(x, -1, { keepDims: true });
  const times = (a: MaybeTensor, b: MaybeTensor, options = {}) => a && b && matmul(a, b, options);
  const t = plus(times(tq, k, turned), times(q, tk, turned));
  const scaledT = t && mul(t, scale);
  const tp = scaledT && mul(p, sub(scaledT, rows(mul(p, scaledT))!));
  const gtp = times(h, v, turned);
  const d = gtp && sub(gtp, rows(mul(p, gtp))!);
  const gt = d && mul(p, d);
  const r = plus(times(g, v, turned), times(h, tv, turned));
  const direct = plus(r && mul(p, r), tp && gtp && mul(tp, gtp));
  const delta = rows(direct);
  let gs = r && mul(p, r);
  if (tp && d) gs = plus(gs, mul(tp, d));
  if (gs && delta) {
    // delta = G·O + H·tO, as a row sum of what it balances.
    gs = sub(gs, mul(p, delta));
  }
  const scaled = (x: MaybeTensor) => x && mul(x, scale);
  const results = [
    () => backToQuery(scaled(plus(times(gs, k), times(gt, tk)))),
    () => backToKey(scaled(plus(times(gs, q, over), times(gt, tq, over)))),
    () => backToKey(plus(times(p, g, over), times(tp, h, over))),
    () => backToQuery(scaled(times(gt, k))),
    () => backToKey(scaled(times(gt, q, over))),
    () => backToKey(times(p, h, over)),
  ];
  return results.map((result, i) => (needs[i] ? result() : null));
}
