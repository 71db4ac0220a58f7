// Attention with its tangent, and the backward of both, as the products and softmax a reader of the formulas would write
// down in ONNX: 6 products forward, 15 more backward.
import { OnnxGraph } from './onnxModel';

export interface AttentionShape {
  batch: number;
  heads: number;
  tokens: number;
  dim: number;
}

export function attentionGraph({ batch, heads, tokens, dim }: AttentionShape, backward: boolean): Buffer {
  const graph = new OnnxGraph();
  const shape = [batch, heads, tokens, dim];
  const names = ['q', 'k', 'v', 'tq', 'tk', 'tv', ...(backward ? ['g', 'h'] : [])];
  const [q, k, v, tq, tk, tv, g, h] = names.map((name) => graph.input(name, shape)) as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const scale = graph.scalar(1 / Math.sqrt(dim));
  const mul = (a: string, b: string) => graph.node('Mul', [a, b]);
  const add = (a: string, b: string) => graph.node('Add', [a, b]);
  const sub = (a: string, b: string) => graph.node('Sub', [a, b]);
  const product = (a: string, b: string) => graph.node('MatMul', [a, b]);
  const transposed = (a: string) => graph.node('Transpose', [a], { perm: [0, 1, 3, 2] });

  const keys = transposed(k);
  const p = graph.node('Softmax', [mul(product(q, keys), scale)], { axis: 3 });
  const t = mul(add(product(tq, keys), product(q, transposed(tk))), scale);
  const w = mul(p, t);
  const mu = graph.rowSum(w);
  const o = product(p, v);
  const to = add(sub(product(w, v), mul(mu, o)), product(p, tv));
  if (!backward) {
    graph.output('o', o, shape);
    graph.output('to', to, shape);
    return graph.build();
  }

  // L = <p, c> + <p (t − μ), a>, with a = h vᵀ and c = g vᵀ + h tvᵀ.
  const values = transposed(v);
  const a = product(h, values);
  const alpha = graph.rowSum(mul(p, a));
  const centred = sub(t, mu);
  const gp = sub(add(add(product(g, values), product(h, transposed(tv))), mul(centred, a)), mul(alpha, t));
  const gs = mul(mul(p, sub(gp, graph.rowSum(mul(p, gp)))), scale);
  const gt = mul(mul(p, sub(a, alpha)), scale);
  const [pT, gsT, gtT] = [transposed(p), transposed(gs), transposed(gt)];
  graph.output('o', o, shape);
  graph.output('to', to, shape);
  graph.output('gq', add(product(gs, k), product(gt, tk)), shape);
  graph.output('gk', add(product(gsT, q), product(gtT, tq)), shape);
  graph.output('gv', add(product(pT, g), product(transposed(mul(p, centred)), h)), shape);
  graph.output('gtq', product(gt, k), shape);
  graph.output('gtk', product(gtT, q), shape);
  graph.output('gtv', product(pT, h), shape);
  return graph.build();
}
