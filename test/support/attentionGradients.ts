// The backward of attention and its tangent by the definition, whole matrices in float64; and as eager 16-bit mathematics
// does it, every matrix rounded before the next step.
import type { AttentionMasks, AttentionSizes, Round, Six } from './attentionOracle';

const exact: Round = (values) => values;

/** A matrix product: rows of a, [n, inner], with those of b, [m, inner], or with b's columns, [inner, m]. */
function times(a: Float64Array, b: Float64Array, inner: number, byRows: boolean): Float64Array {
  const [n, m] = [a.length / inner, b.length / inner];
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++) {
    for (let x = 0; x < inner; x++) {
      const factor = a[i * inner + x]!;
      for (let j = 0; j < m; j++) out[i * m + j]! += factor * (byRows ? b[j * inner + x]! : b[x * m + j]!);
    }
  }
  return out;
}

function transposed(a: Float64Array, columns: number): Float64Array {
  const rows = a.length / columns;
  const out = new Float64Array(a.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) out[j * rows + i] = a[i * columns + j]!;
  }
  return out;
}

/** operands: q, k, v, tq, tk, tv; cotangents: those of the output and of its tangent. -> gq, gk, gv, gtq, gtk, gtv. */
export function attentionGradientsOf(
  operands: readonly Float64Array[],
  cotangents: readonly [Float64Array, Float64Array],
  { batch, heads, keyHeads, queries, keys, dim }: AttentionSizes,
  { layout = 'BHSD', causal = false, scale = 1 / Math.sqrt(dim), lengths }: AttentionMasks,
  round: Round = exact,
): Float64Array[] {
  const at = (b: number, h: number, i: number, total: number, rows: number) =>
    (layout === 'BSHD' ? (b * rows + i) * total + h : (b * total + h) * rows + i) * dim;
  const out = operands.map((x) => new Float64Array(x.length));
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kh = Math.floor(h / (heads / keyHeads));
      const place = (ofKeys: boolean, i: number) =>
        ofKeys ? at(b, kh, i, keyHeads, keys) : at(b, h, i, heads, queries);
      const head = (x: Float64Array, ofKeys: boolean) => {
        const rows = new Float64Array((ofKeys ? keys : queries) * dim);
        for (let i = 0; i * dim < rows.length; i++)
          rows.set(x.subarray(place(ofKeys, i), place(ofKeys, i) + dim), i * dim);
        return rows;
      };
      const give = (which: number, ofKeys: boolean, rows: Float64Array) => {
        for (let i = 0; i < rows.length; i++) out[which]![place(ofKeys, Math.floor(i / dim)) + (i % dim)]! += rows[i]!;
      };
      const [q, k, v, tq, tk, tv] = operands.map((x, i) => head(x, i % 3 !== 0)) as Six;
      const [g, t] = cotangents.map((x) => head(x, false)) as [Float64Array, Float64Array];
      const scores = (a: Float64Array, c: Float64Array) => round(times(a, c, dim, true));
      const plus = (a: Float64Array, c: Float64Array) => round(a.map((x, i) => x + c[i]!));
      const by = (a: Float64Array, c: Float64Array) => round(a.map((x, i) => x * c[i]!));
      const scaled = (a: Float64Array, factor: number) => round(a.map((x) => factor * x));
      const visible = (i: number) =>
        Math.max(0, Math.min(lengths?.[b] ?? keys, causal ? i + 1 + keys - queries : keys));
      const s = scaled(scores(q, k), scale);
      const moved = scaled(plus(scores(tq, k), scores(q, tk)), scale);
      const p = new Float64Array(s.length);
      for (let i = 0; i < queries; i++) {
        const n = visible(i);
        const row = s.subarray(i * keys, i * keys + n);
        const top = row.reduce((x, y) => Math.max(x, y), Number.NEGATIVE_INFINITY);
        const total = row.reduce((sum, x) => sum + Math.exp(x - top), 0);
        for (let j = 0; j < n; j++) p[i * keys + j] = Math.exp(row[j]! - top) / total;
      }
      p.set(round(p));
      /** Less each row's mean under the weights. */
      const centred = (x: Float64Array) => {
        const result = Float64Array.from(x);
        for (let i = 0; i < queries; i++) {
          let mean = 0;
          for (let j = i * keys; j < (i + 1) * keys; j++) mean += p[j]! * x[j]!;
          for (let j = i * keys; j < (i + 1) * keys; j++) result[j]! -= mean;
        }
        return round(result);
      };
      const still = centred(moved);
      const tp = by(p, still);
      const d = centred(scores(t, v));
      const gt = by(p, d);
      const gs = by(p, centred(plus(plus(scores(g, v), scores(t, tv)), by(d, still))));
      const product = (a: Float64Array, c: Float64Array) => round(times(a, c, keys, false));
      const toKeys = (a: Float64Array, c: Float64Array) => round(times(transposed(a, keys), c, queries, false));
      give(0, false, scaled(plus(product(gs, k), product(gt, tk)), scale));
      give(3, false, scaled(product(gt, k), scale));
      give(1, true, scaled(plus(toKeys(gs, q), toKeys(gt, tq)), scale));
      give(4, true, scaled(toKeys(gt, q), scale));
      give(2, true, plus(toKeys(p, g), toKeys(tp, t)));
      give(5, true, toKeys(p, t));
    }
  }
  return out.map(round);
}
