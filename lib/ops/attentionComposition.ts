// Attention and its backward by their definition, with whole matrices: what third derivatives go through, and the
// tests' oracle. Keys are not centred here (`centerKeys`), which would change nothing but roundings.
import { arange } from '../create';
import type { Tensor } from '../tensor';
import type { AttentionAttributes, AttentionBackward } from './attention';
import { less, lessEqual, where } from './compare';
import { add, cast, exp, log, minimum, mul, sub } from './elementwise';
import { take } from './gather';
import { matmul } from './matmul';
import { rmsNorm, rmsNormJvp, rmsNormJvpVjp, softmax } from './norm';
import { max, sum } from './reduce';
import { broadcastTo, permute, reshape, slice } from './shape';

type MaybeTensor = Tensor | null;

/** What says which keys a query sees: keyLengths, queryOffsets, keyOffsets. */
type Sequences = readonly [MaybeTensor | undefined, MaybeTensor | undefined, MaybeTensor | undefined];

function plus(a: MaybeTensor | undefined, b: MaybeTensor | undefined): MaybeTensor {
  return a && b ? add(a, b) : (a ?? b ?? null);
}

/** Heads before tokens, and key heads repeated for their group of query heads; and back, summing over the group. */
function arranged(q: Tensor, k: Tensor, layout: AttentionAttributes['layout']) {
  const inner = layout !== 'BHSD';
  const packed = layout === 'SHD';
  const turn = (x: Tensor) => {
    const batched = packed && x.rank === 3 ? reshape(x, [1, ...x.shape]) : x;
    return inner ? permute(batched, [0, 2, 1, 3]) : batched;
  };
  const back = (x: Tensor) => {
    const turned = inner ? permute(x, [0, 2, 1, 3]) : x;
    return packed ? reshape(turned, turned.shape.slice(1)) : turned;
  };
  const [batch, heads, , dim] = turn(q).shape as [number, number, number, number];
  const [, keyHeads, keys] = turn(k).shape as [number, number, number, number];
  const group = keyHeads === 0 ? 1 : heads / keyHeads;
  return {
    query: (x: MaybeTensor | undefined) => (x ? turn(x) : null),
    key: (x: MaybeTensor | undefined) => {
      if (!x) return null;
      const one = reshape(turn(x), [batch, keyHeads, 1, keys, dim]);
      return reshape(broadcastTo(one, [batch, keyHeads, group, keys, dim]), [batch, heads, keys, dim]);
    },
    backToQuery: (x: MaybeTensor) => x && back(x),
    backToKey: (x: MaybeTensor) => x && back(sum(reshape(x, [batch, keyHeads, group, keys, dim]), 2)),
    statistics: (x: Tensor) => reshape(x, packed ? x.shape.slice(1, 3) : x.shape.slice(0, 3)),
  };
}

// [B or 1, 1, Sq or 1, Sk], true where a query sees a key; null where all see all.
function visibility(
  q: Tensor,
  k: Tensor,
  [keyLengths, queryOffsets, keyOffsets]: Sequences,
  { causal }: AttentionAttributes,
): Tensor | null {
  const [queries, keys] = [q.shape[2]!, k.shape[2]!];
  if (queryOffsets && keyOffsets) return visibilityOfPacked(queries, keys, queryOffsets, keyOffsets, causal);
  if (!causal && !keyLengths) return null;
  const { device } = q;
  const position = reshape(arange(0, keys, 1, { device, dtype: 'int32' }), [1, 1, 1, keys]);
  const counts: Tensor[] = []; // a query sees the keys before each of them
  if (keyLengths) counts.push(reshape(keyLengths, [q.shape[0]!, 1, 1, 1]));
  if (causal) {
    const first = 1 + keys - queries;
    counts.push(reshape(arange(first, first + queries, 1, { device, dtype: 'int32' }), [1, 1, queries, 1]));
  }
  return less(position, counts.reduce(minimum));
}

// [1, 1, Σ Sq, Σ Sk]: a query sees the keys of its own sequence.
function visibilityOfPacked(queries: number, keys: number, queryOffsets: Tensor, keyOffsets: Tensor, causal: boolean) {
  const { device } = queryOffsets;
  const sequences = queryOffsets.size - 1;
  const positions = (count: number) => arange(0, count, 1, { device, dtype: 'int32' });
  const ends = reshape(slice(queryOffsets, [1], [sequences + 1]), [1, sequences]);
  const ended = lessEqual(ends, reshape(positions(queries), [queries, 1]));
  const sequence = cast(sum(cast(ended, 'float32'), 1), 'int32'); // how many ended before, [Σ Sq]
  const ofQuery = (offsets: Tensor, which: number) => reshape(take(offsets, add(sequence, which)), [queries, 1]);
  const key = reshape(positions(keys), [1, keys]);
  const [first, end] = [ofQuery(keyOffsets, 0), ofQuery(keyOffsets, 1)];
  const next = reshape(add(positions(queries), 1), [queries, 1]);
  const last = causal ? minimum(end, add(sub(end, ofQuery(queryOffsets, 1)), next)) : end;
  // Keys before the sequence's own are taken for ones beyond them all.
  const mask = less(where(less(key, first), keys, key), last);
  return reshape(mask, [1, 1, queries, keys]);
}

function weightsOf(q: Tensor, k: Tensor, mask: Tensor | null, scale: number) {
  const scores = mul(matmul(q, k, { transposeB: true }), scale);
  // A finite minimum: a row without any key then has even weights, which the mask takes away.
  const floor = scores.dtype === 'float64' ? -1e300 : -1e30;
  const masked = mask ? where(mask, scores, floor) : scores;
  const p = softmax(masked);
  return { masked, p: mask ? where(mask, p, 0) : p };
}

/** Zeros for keys that do not count: they may be anything, and QKNorm is not to see it. */
export function countingKeys(
  x: Tensor,
  keyLengths: MaybeTensor | undefined,
  layout: AttentionAttributes['layout'],
): Tensor {
  if (!keyLengths) return x;
  const axis = layout === 'BSHD' ? 1 : 2;
  const position = arange(0, x.shape[axis]!, 1, { device: x.device, dtype: 'int32' });
  const along = x.shape.map((size, i) => (i === axis ? size : 1));
  const counts = less(reshape(position, along), reshape(keyLengths, [x.shape[0]!, 1, 1, 1]));
  return where(counts, x, 0);
}

const keysOf =
  (keyLengths: MaybeTensor | undefined, { layout, normalize }: AttentionAttributes) =>
  (x: Tensor): Tensor =>
    normalize ? countingKeys(x, keyLengths, layout) : x;

// QKNorm of queries or keys and of their tangent.
function normalized(
  x: Tensor,
  tx: MaybeTensor | undefined,
  weight: MaybeTensor | undefined,
  { normalize, eps }: AttentionAttributes,
): [Tensor, MaybeTensor] {
  if (!normalize) return [x, tx ?? null];
  if (!tx) return [rmsNorm(x, weight ?? null, { eps }), null];
  return rmsNormJvp([x, weight ?? null], [tx, null], { eps });
}

/** inputs: q, k, v, tq, tk, tv, qWeight, kWeight, keyLengths, queryOffsets, keyOffsets. -> o, to, lse, mu. */
export function attentionComposition(inputs: readonly MaybeTensor[], attributes: AttentionAttributes): Tensor[] {
  const [q0, k0, v0, tq0, tk0, tv0, qWeight, kWeight, ...sequences] = inputs;
  const { layout, scale } = attributes;
  const keyed = keysOf(sequences[0], attributes);
  const [q1, tq1] = normalized(q0!, tq0, qWeight, attributes);
  const [k1, tk1] = normalized(keyed(k0!), tk0 && keyed(tk0), kWeight, attributes);
  const { query, key, backToQuery, statistics } = arranged(q0!, k0!, layout);
  const [q, k, v, tq, tk, tv] = [query(q1)!, key(k1)!, key(v0)!, query(tq1), key(tk1), key(tv0)];
  const mask = visibility(q, k, sequences as unknown as Sequences, attributes);
  const { masked, p } = weightsOf(q, k, mask, scale);
  const turned = { transposeB: true };
  const t = plus(tq && mul(matmul(tq, k, turned), scale), tk && mul(matmul(q, tk, turned), scale));
  const mu = t && sum(mul(p, t), -1, { keepDims: true });
  const moved = t && matmul(mul(p, sub(t, mu!)), v);
  const to = plus(moved, tv && matmul(p, tv));
  const o = matmul(p, v);
  const top = max(masked, -1, { keepDims: true });
  const lse = statistics(add(log(sum(exp(sub(masked, top)), -1, { keepDims: true })), top));
  return [backToQuery(o)!, backToQuery(to ?? mul(o, 0))!, lse, mu ? statistics(mu) : mul(lse, 0)];
}

/**
 * inputs: q, k, v, tq, tk, tv, o, to, lse, mu, g, h, qWeight, kWeight, keyLengths, queryOffsets, keyOffsets.
 * -> gq, gk, gv, gtq, gtk, gtv, gqWeight, gkWeight, null where not needed.
 */
export function attentionVjpComposition(inputs: readonly MaybeTensor[], attributes: AttentionBackward): MaybeTensor[] {
  const [q0, k0, v0, tq0, tk0, tv0, , , , , g0, h0, qWeight, kWeight, ...sequences] = inputs;
  const { layout, scale, needs, normalize, eps } = attributes;
  const keyed = keysOf(sequences[0], attributes);
  const [q1, tq1] = normalized(q0!, tq0, qWeight, attributes);
  const [k1, tk1] = normalized(keyed(k0!), tk0 && keyed(tk0), kWeight, attributes);
  const { query, key, backToQuery, backToKey } = arranged(q0!, k0!, layout);
  const [q, k, v, tq, tk, tv] = [query(q1)!, key(k1)!, key(v0)!, query(tq1), key(tk1), key(tv0)];
  const [g, h] = [query(g0), query(h0)];
  const { p } = weightsOf(q, k, visibility(q, k, sequences as unknown as Sequences, attributes), scale);
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
  const ofQueries = {
    g: () => backToQuery(scaled(plus(times(gs, k), times(gt, tk)))),
    h: () => backToQuery(scaled(times(gt, k))),
  };
  const ofKeys = {
    g: () => backToKey(scaled(plus(times(gs, q, over), times(gt, tq, over)))),
    h: () => backToKey(scaled(times(gt, q, over))),
  };
  // Through QKNorm: -> the gradients of x, tx and the weight.
  const through = (
    x: Tensor,
    tx: MaybeTensor,
    weight: MaybeTensor,
    of: typeof ofQueries,
    places: readonly number[],
  ) => {
    const [needX, needTx, needWeight] = places.map((i) => needs[i]!) as [boolean, boolean, boolean];
    if (!normalize) return [needX ? of.g() : null, needTx ? of.h() : null, null];
    if (!needX && !needTx && !needWeight) return [null, null, null];
    const all = rmsNormJvpVjp([x, weight, tx, null], of.g(), of.h(), [needX, needWeight, needTx, false], eps);
    return [all[0]!, all[2]!, all[1]!];
  };
  const [gq, gtq, gqWeight] = through(q0!, tq0 ?? null, qWeight ?? null, ofQueries, [0, 3, 6]);
  const [gk, gtk, gkWeight] = through(keyed(k0!), tk0 ? keyed(tk0) : null, kWeight ?? null, ofKeys, [1, 4, 7]);
  const gv = needs[2] ? backToKey(plus(times(p, g, over), times(tp, h, over))) : null;
  const gtv = needs[5] ? backToKey(times(p, h, over)) : null;
  return [gq!, gk!, gv, gtq!, gtk!, gtv, gqWeight ?? null, gkWeight ?? null];
}
