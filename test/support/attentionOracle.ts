// Attention and its tangent by the definition, whole matrices in float64; and as eager 16-bit mathematics does it, every
// matrix rounded before the next step: the measure of what a fused kernel may err.
export type Narrow = 'bfloat16' | 'float16';

export interface AttentionSizes {
  batch: number;
  heads: number;
  keyHeads: number;
  queries: number;
  keys: number;
  dim: number;
}

export interface AttentionMasks {
  layout?: 'BHSD' | 'BSHD';
  causal?: boolean;
  scale?: number;
  lengths?: readonly number[];
}

/** One for each of q, k, v, tq, tk, tv. */
export type Six = [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];

export type Round = (values: Float64Array) => Float64Array;

const formats = { bfloat16: { digits: 7, least: -126 }, float16: { digits: 10, least: -14 } } as const;

const bits = new Uint32Array(2);
const double = new Float64Array(bits.buffer);
/** The exponent of the largest power of two that is not above |x|; 1024 of what is not finite, -1023 below all normal numbers. */
function exponentOf(x: number): number {
  double[0] = x;
  return ((bits[1]! >>> 20) & 0x7ff) - 1023;
}
// Added and taken away again, it leaves the nearest whole number, ties to even.
const wholes = 1.5 * 2 ** 52;

/** Rounds to the nearest value of a narrow type, ties to even; what is too large stays, for nothing here is. */
export function rounding(dtype: Narrow): Round {
  const { digits, least } = formats[dtype];
  const units = Float64Array.from({ length: 2048 }, (_, i) => 2 ** (Math.max(i - 1023, least) - digits));
  return (values) => {
    const rounded = new Float64Array(values.length);
    for (let i = 0; i < values.length; i++) {
      const x = values[i]!;
      const unit = units[exponentOf(x) + 1023]!;
      rounded[i] = x === 0 || !Number.isFinite(x) ? x : (x / unit + wholes - wholes) * unit;
    }
    return rounded;
  };
}

const exact: Round = (values) => values;

export interface AttentionValues {
  o: Float64Array;
  to: Float64Array;
  lse: Float64Array;
  mu: Float64Array;
}

/** operands: q, k, v, tq, tk, tv in the layout of `masks`. */
export function attentionOf(
  operands: readonly Float64Array[],
  { batch, heads, keyHeads, queries, keys, dim }: AttentionSizes,
  { layout = 'BHSD', causal = false, scale = 1 / Math.sqrt(dim), lengths }: AttentionMasks,
  round: Round = exact,
): AttentionValues {
  const [q, k, v, tq, tk, tv] = operands as Six;
  const at = (b: number, h: number, i: number, total: number, rows: number) =>
    (layout === 'BSHD' ? (b * rows + i) * total + h : (b * total + h) * rows + i) * dim;
  const dot = (a: Float64Array, i: number, b: Float64Array, j: number) => {
    let sum = 0;
    for (let p = 0; p < dim; p++) sum += a[i + p]! * b[j + p]!;
    return sum;
  };
  const out: AttentionValues = {
    o: new Float64Array(q.length),
    to: new Float64Array(q.length),
    lse: new Float64Array(batch * heads * queries),
    mu: new Float64Array(batch * heads * queries),
  };
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kh = Math.floor(h / (heads / keyHeads));
      for (let i = 0; i < queries; i++) {
        const row = (b * heads + h) * queries + i;
        const qi = at(b, h, i, heads, queries);
        const n = Math.max(0, Math.min(lengths?.[b] ?? keys, causal ? i + 1 + keys - queries : keys));
        const columns = Array.from({ length: n }, (_, j) => at(b, kh, j, keyHeads, keys));
        const dots = (a: Float64Array, c: Float64Array) => {
          const products = new Float64Array(n);
          for (let j = 0; j < n; j++) products[j] = dot(a, qi, c, columns[j]!);
          return round(products);
        };
        const s = round(dots(q, k).map((x) => scale * x));
        const parts = [dots(tq, k), dots(q, tk)] as const;
        const t = round(round(parts[0].map((x, j) => x + parts[1][j]!)).map((x) => scale * x));
        const top = s.reduce((x, y) => Math.max(x, y), Number.NEGATIVE_INFINITY);
        const total = s.reduce((sum, x) => sum + Math.exp(x - top), 0);
        const p = round(s.map((x) => Math.exp(x - top) / total));
        const mu = p.reduce((sum, x, j) => sum + x * t[j]!, 0);
        const centred = round(t.map((x) => x - round(Float64Array.of(mu))[0]!));
        const tp = round(p.map((x, j) => x * centred[j]!));
        out.lse[row] = n === 0 ? Number.POSITIVE_INFINITY : top + Math.log(total);
        out.mu[row] = mu;
        const [o, moved, still] = [new Float64Array(dim), new Float64Array(dim), new Float64Array(dim)];
        columns.forEach((kj, j) => {
          for (let x = 0; x < dim; x++) {
            o[x]! += p[j]! * v[kj + x]!;
            moved[x]! += tp[j]! * v[kj + x]!;
            still[x]! += p[j]! * tv[kj + x]!;
          }
        });
        out.o.set(round(o), qi);
        const [a, c] = [round(moved), round(still)];
        out.to.set(round(a.map((x, d) => x + c[d]!)), qi);
      }
    }
  }
  return out;
}
