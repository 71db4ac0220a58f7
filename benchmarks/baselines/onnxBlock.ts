// A transformer block with adaLN-zero and its tangent along tokens and condition, and the backward of both, in ONNX.
import { OnnxTape, type Value } from './onnxTape';

export interface BlockShape {
  batch: number;
  tokens: number;
  width: number;
  heads: number;
}

/** A value and its tangent. */
interface Dual {
  x: Value;
  t: Value;
}

class Duals {
  constructor(private readonly on: OnnxTape) {}

  each(d: Dual, f: (x: Value) => Value): Dual {
    return { x: f(d.x), t: f(d.t) };
  }

  add(a: Dual, b: Dual): Dual {
    return { x: this.on.add(a.x, b.x), t: this.on.add(a.t, b.t) };
  }

  product(a: Dual, b: Dual, f: (a: Value, b: Value) => Value): Dual {
    return { x: f(a.x, b.x), t: this.on.add(f(a.t, b.x), f(a.x, b.t)) };
  }

  mul(a: Dual, b: Dual): Dual {
    return this.product(a, b, (x, y) => this.on.mul(x, y));
  }

  /** x W + b, of matrices; the weights have no tangent. */
  linear(d: Dual, weight: Value, bias: Value): Dual {
    const w = this.on.swapped(weight);
    return { x: this.on.add(this.on.matmul(d.x, w), bias), t: this.on.matmul(d.t, w) };
  }

  rmsNorm({ x, t }: Dual, weight?: Value): Dual {
    const { on } = this;
    const share = on.scalar(1 / x.shape.at(-1)!);
    const r = on.rsqrt(on.add(on.mul(on.rowSum(on.mul(x, x)), share), on.scalar(1e-6)));
    const y = on.mul(x, r);
    const ty = on.sub(on.mul(t, r), on.mul(y, on.mul(on.mul(on.rowSum(on.mul(y, t)), share), r)));
    const normal = { x: y, t: ty };
    return weight ? this.each(normal, (v) => on.mul(v, weight)) : normal;
  }

  softmax({ x, t }: Dual): Dual {
    const { on } = this;
    const p = on.softmax(x);
    const w = on.mul(p, t);
    return { x: p, t: on.sub(w, on.mul(p, on.rowSum(w))) };
  }

  gelu({ x, t }: Dual): Dual {
    const { on } = this;
    const [a, half, one] = [Math.sqrt(2 / Math.PI), on.scalar(0.5), on.scalar(1)];
    const square = on.mul(x, x);
    const u = on.tanh(on.mul(x, on.add(on.scalar(a), on.mul(square, on.scalar(0.044715 * a)))));
    const inner = on.add(on.scalar(a), on.mul(square, on.scalar(3 * 0.044715 * a)));
    const slope = on.mul(half, on.add(on.add(one, u), on.mul(x, on.mul(on.sub(one, on.mul(u, u)), inner))));
    return { x: on.mul(on.mul(half, x), on.add(one, u)), t: on.mul(slope, t) };
  }
}

/** Inputs and outputs as in benchmarks/peers/block.bench; `weights` are shapes by name. */
export function blockGraph(
  { batch, tokens, width, heads }: BlockShape,
  weights: ReadonlyMap<string, readonly number[]>,
  backward: boolean,
): Buffer {
  const on = new OnnxTape();
  const duals = new Duals(on);
  const p = new Map([...weights].map(([name, shape]) => [name, on.input(name, shape)]));
  const of = (name: string) => [p.get(`${name}.weight`)!, p.get(`${name}.bias`)!] as const;
  const full = [batch, tokens, width];
  const input: Dual = { x: on.input('x', full), t: on.input('tx', full) };
  const condition: Dual = { x: on.input('c', [batch, width]), t: on.input('tc', [batch, width]) };

  const rows = (d: Dual) => duals.each(d, (v) => on.reshape(v, [batch * tokens, v.shape.at(-1)!]));
  const unrows = (d: Dual) => duals.each(d, (v) => on.reshape(v, full));
  const vectors = duals.linear(condition, ...of('adaLN_modulation.1'));
  const parts = [on.split(vectors.x, 6, 1), on.split(vectors.t, 6, 1)];
  const vector = (i: number): Dual => {
    const [x, t] = parts.map((values) => on.reshape(values[i]!, [batch, 1, width])) as [Value, Value];
    return { x, t };
  };
  const modulated = (d: Dual, shift: Dual, scale: Dual) => {
    const normal = duals.rmsNorm(d);
    return duals.add(duals.add(normal, duals.mul(normal, scale)), shift);
  };

  const dim = width / heads;
  const qkv = duals.linear(rows(modulated(input, vector(0), vector(1))), ...of('attn.qkv'));
  const split = duals.each(qkv, (v) => on.transpose(on.reshape(v, [batch, tokens, 3, heads, dim]), [2, 0, 3, 1, 4]));
  const thirds = [on.split(split.x, 3, 0), on.split(split.t, 3, 0)];
  const [q, k, v] = [0, 1, 2].map((i) => {
    const [x, t] = thirds.map((values) => on.reshape(values[i]!, [batch, heads, tokens, dim])) as [Value, Value];
    return { x, t };
  }) as [Dual, Dual, Dual];
  const [nq, nk] = [
    duals.rmsNorm(q, p.get('attn.q_norm.weight')),
    duals.each(duals.rmsNorm(k, p.get('attn.k_norm.weight')), (y) => on.swapped(y)),
  ];
  const product = (a: Dual, b: Dual) => duals.product(a, b, (x, y) => on.matmul(x, y));
  const scores = duals.each(product(nq, nk), (s) => on.mul(s, on.scalar(1 / Math.sqrt(dim))));
  const mixed = duals.each(product(duals.softmax(scores), v), (o) =>
    on.reshape(on.transpose(o, [0, 2, 1, 3]), [batch * tokens, width]),
  );
  const attended = duals.add(input, duals.mul(vector(2), unrows(duals.linear(mixed, ...of('attn.proj')))));
  const hidden = duals.gelu(duals.linear(rows(modulated(attended, vector(3), vector(4))), ...of('mlp.fc1')));
  const y = duals.add(attended, duals.mul(vector(5), unrows(duals.linear(hidden, ...of('mlp.fc2')))));

  on.graph.output('y', y.x.name, full);
  on.graph.output('ty', y.t.name, full);
  if (backward) {
    const [g, h] = [on.input('g', full), on.input('h', full)];
    const sources = [...p.values(), input.x, condition.x, input.t, condition.t];
    const gradients = on.backward(
      [
        [y.x, g],
        [y.t, h],
      ],
      sources,
    );
    for (const [i, { name, shape }] of sources.entries()) on.graph.output(`g${name}`, gradients[i]!.name, shape);
  }
  return on.graph.build();
}
