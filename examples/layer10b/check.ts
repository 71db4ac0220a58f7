// Is it right? A few tokens' output and tangent, and gradients that these tokens alone send back, beside the same in float64
// on the CPU: the very same rounded weights and inputs through plain operations, none of the fused ones.
import {
  concat,
  jvp,
  linear,
  matmul,
  mean,
  type nn,
  permute,
  reshape,
  slice,
  softmax,
  split,
  sqrt,
  sum,
  type Tensor,
  take,
  tensor,
  tidy,
  valueAndGrad,
} from 'flowmap';
import { type Inputs, valueAndTangent } from './layer';
import type { FloatType, Model } from './options';

/** Largest relative error (Euclidean norms) that passes. */
export const tolerances: Record<FloatType, number> = { bfloat16: 0.02, float16: 3e-3, float32: 1e-5, float64: 1e-12 };

/** Output, tangent and gradients by name, on the CPU in float64. */
export type Slices = Map<string, Tensor>;

/** Gradients that reach a parameter without a product over all tokens, which float64 would take long for. */
const checkedGradients = [
  'attn.qkv.bias',
  'attn.q_norm.weight',
  'attn.k_norm.weight',
  'attn.proj.weight',
  'attn.proj.bias',
  'mlp.fc1.bias',
  'mlp.fc2.bias',
];
const modulation = 'adaLN_modulation.1.bias';
const modulationGradient = `${modulation}, all but the first shift and scale`;

const exact = (x: Tensor) => x.to({ dtype: 'float64', device: 'cpu' });

/** The first, the middle and the last. */
function probes(tokens: number): number[] {
  return [...new Set([0, Math.floor(tokens / 2), tokens - 1])];
}

/** [B, S, D] -> the last sequence's, [S, D] */
function lastSequence(x: Tensor): Tensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  return reshape(slice(x, [batch - 1], [batch]), [tokens, width]);
}

/** What the layer computes, with cotangents at the probed tokens only. */
export function computed(block: nn.DiTBlock, inputs: Inputs, options: { checkpoint: boolean }): Slices {
  return tidy(() => {
    const { dtype, device, shape } = inputs.x;
    const [batch, tokens] = shape as [number, number, number];
    const at = probes(tokens);
    const chosen = new Float32Array(batch * tokens);
    for (const token of at) chosen[(batch - 1) * tokens + token] = 1;
    const mask = tensor(chosen, { shape: [batch, tokens, 1], device }).to({ dtype });
    const [[y, ty], pullback] = valueAndTangent(block, inputs, options);
    try {
      const [params] = pullback([inputs.gy.mul(mask), inputs.gty.mul(mask)]);
      const rows = (x: Tensor) => take(exact(lastSequence(x)), tensor(at, { dtype: 'int32' }));
      const slices: Slices = new Map([
        ['output', rows(y)],
        ['tangent', rows(ty)],
      ]);
      for (const name of checkedGradients) slices.set(`gradient of ${name}`, exact(params.get(name)));
      slices.set(`gradient of ${modulationGradient}`, exact(slice(params.get(modulation), [2 * shape[2]!])));
      return slices;
    } finally {
      pullback.dispose();
    }
  });
}

const rms = (x: Tensor) => x.div(sqrt(mean(x.square(), -1, { keepDims: true }).add(1e-6)));
const tanhGelu = (x: Tensor) =>
  x.mul(0.5).mul(
    x
      .add(x.mul(x).mul(x).mul(0.044715))
      .mul(Math.sqrt(2 / Math.PI))
      .tanh()
      .add(1),
  );

const modulations = (all: Tensor) => split(all, 6, 1) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];

/** The same, written out in float64. */
export function expected(block: nn.DiTBlock, inputs: Inputs, { heads }: Model): Slices {
  return tidy(() => {
    const params = new Map([...block.namedParameters()].map(([name, param]) => [name, exact(param)]));
    const [batch, tokens, width] = inputs.x.shape as [number, number, number];
    const size = width / heads;
    const at = tensor(probes(tokens), { dtype: 'int32' });
    const row = (x: Tensor) => exact(slice(x, [batch - 1], [batch]));
    const [x, tx, gy, gty] = [inputs.x, inputs.tx, inputs.gy, inputs.gty].map((t) => exact(lastSequence(t)));
    const byHead = (t: Tensor) => permute(reshape(t, [-1, heads, size]), [1, 0, 2]);

    const output = (of: Map<string, Tensor>, x: Tensor, condition: Tensor): Tensor => {
      const weight = (name: string) => of.get(name)!;
      const layer = (name: string, h: Tensor, from = of) =>
        linear(h, from.get(`${name}.weight`)!, from.get(`${name}.bias`)!);
      // The first two from parameters that are constants here: their gradients would take products over all tokens.
      const [shift1, scale1] = modulations(layer('adaLN_modulation.1', condition, params));
      const [, , gate1, shift2, scale2, gate2] = modulations(layer('adaLN_modulation.1', condition));
      const h = rms(x).mul(scale1.add(1)).add(shift1);
      const part = (h: Tensor, begin: number, end: number) =>
        linear(h, slice(weight('attn.qkv.weight'), [begin], [end]), slice(weight('attn.qkv.bias'), [begin], [end]));
      const q = rms(byHead(part(take(h, at), 0, width))).mul(weight('attn.q_norm.weight'));
      const kv = part(h, width, 3 * width);
      const k = rms(byHead(slice(kv, [0, 0], [tokens, width]))).mul(weight('attn.k_norm.weight'));
      const v = byHead(slice(kv, [0, width], [tokens, 2 * width]));
      const p = softmax(matmul(q, k, { transposeB: true }).mul(1 / Math.sqrt(size)));
      const attended = reshape(permute(matmul(p, v), [1, 0, 2]), [-1, width]);
      const middle = take(x, at).add(gate1.mul(layer('attn.proj', attended)));
      const hidden = tanhGelu(layer('mlp.fc1', rms(middle).mul(scale2.add(1)).add(shift2)));
      return middle.add(gate2.mul(layer('mlp.fc2', hidden)));
    };

    const names = [...checkedGradients, modulation];
    const differentiated = new Map(names.map((name) => [name, params.get(name)!]));
    const [[, y, ty], gradients] = valueAndGrad(
      (chosen: Map<string, Tensor>) => {
        const of = new Map([...params, ...chosen]);
        const both = jvp(
          (x: Tensor, condition: Tensor) => output(of, x, condition),
          [x!, row(inputs.condition)],
          [tx!, row(inputs.tcondition)],
        );
        return [sum(concat([both[0].mul(take(gy!, at)), both[1].mul(take(gty!, at))])), ...both];
      },
      { hasAux: true },
    )(differentiated) as [[Tensor, Tensor, Tensor], Map<string, Tensor>];
    const slices: Slices = new Map([
      ['output', y],
      ['tangent', ty],
    ]);
    for (const name of checkedGradients) slices.set(`gradient of ${name}`, gradients.get(name)!);
    slices.set(`gradient of ${modulationGradient}`, slice(gradients.get(modulation)!, [2 * width]));
    return slices;
  });
}

function norm(values: ArrayLike<number>, others?: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += (values[i]! - (others?.[i] ?? 0)) ** 2;
  return Math.sqrt(total);
}

export interface Check {
  tokens: number;
  tolerance: number;
  /** By what was compared. */
  errors: Record<string, number>;
  passed: boolean;
}

/** Relative distance of each slice from what it should be. */
export function compare(got: Slices, wanted: Slices, tokens: number, dtype: FloatType): Check {
  const tolerance = tolerances[dtype];
  const errors: Record<string, number> = {};
  for (const [name, exactly] of wanted) {
    const reference = exactly.dataSync();
    errors[name] = norm(got.get(name)!.dataSync(), reference) / norm(reference);
  }
  // A NaN is no number below the tolerance.
  return { tokens, tolerance, errors, passed: Object.values(errors).every((error) => error <= tolerance) };
}
