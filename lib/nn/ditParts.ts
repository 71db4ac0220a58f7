// What the diffusion transformers here are made of: attention, MLP, adaLN blocks, and what stands before and after them.
import { tensor, zeros } from '../create';
import { tidy } from '../memory';
import { gelu } from '../ops/activation';
import { attention } from '../ops/attention';
import { less, where } from '../ops/compare';
import { linear } from '../ops/matmul';
import { gatedResidual, rmsNorm, splitQkv } from '../ops/norm';
import { layerNormModulate, rmsNormModulate } from '../ops/normModulate';
import { reshape, split } from '../ops/shape';
import type { Generator } from '../random';
import type { Tensor } from '../tensor';
import { xavierUniform } from './init';
import { Embedding, Linear, RMSNorm } from './layers';
import { Module } from './module';

/** A weightless normalisation of tokens. */
export type TokenNorm = 'rms' | 'layer';

type Modulated = (x: Tensor, shift: Tensor, scale: Tensor) => Tensor;
const modulated: Record<TokenNorm, Modulated> = { rms: rmsNormModulate, layer: layerNormModulate };

/** Self-attention over tokens. [B, S, D] -> [B, S, D]. Keys: qkv, q_norm, k_norm, proj. */
export class Attention extends Module {
  private readonly qkv: Linear;
  private readonly qNorm: RMSNorm | null = null;
  private readonly kNorm: RMSNorm | null = null;
  private readonly proj: Linear;

  constructor(
    width: number,
    private readonly heads: number,
    options: { qkNorm?: boolean; makeWeight?: (outputs: number, inputs: number) => Tensor } = {},
  ) {
    super();
    const { qkNorm = true, makeWeight = xavierUniform } = options;
    this.qkv = this.child('qkv', new Linear(width, 3 * width, { weight: makeWeight(3 * width, width) }));
    if (qkNorm) {
      this.qNorm = this.child('q_norm', new RMSNorm(width / heads));
      this.kNorm = this.child('k_norm', new RMSNorm(width / heads));
    }
    this.proj = this.child('proj', new Linear(width, width, { weight: makeWeight(width, width) }));
  }

  forward(x: Tensor): Tensor {
    const [q, k, v] = splitQkv(this.qkv.forward(x), this.qNorm?.scale ?? null, this.kNorm?.scale ?? null, {
      heads: this.heads,
      normalize: this.qNorm !== null,
    });
    return this.proj.forward(reshape(attention(q, k, v, { layout: 'BSHD' }), x.shape));
  }
}

/** Two linear layers with tanh-GELU between. [..., D] -> [..., D]. Keys: fc1, fc2. */
export class Mlp extends Module {
  private readonly fc1: Linear;
  private readonly fc2: Linear;

  constructor(width: number, hidden: number, makeWeight: (outputs: number, inputs: number) => Tensor = xavierUniform) {
    super();
    this.fc1 = this.child('fc1', new Linear(width, hidden, { weight: makeWeight(hidden, width) }));
    this.fc2 = this.child('fc2', new Linear(hidden, width, { weight: makeWeight(width, hidden) }));
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(gelu(this.fc1.forward(x)));
  }
}

/** A linear layer that starts at zero and gives `count` modulation vectors of an already activated condition. */
class Modulation extends Module {
  private readonly layer: Linear;

  constructor(
    private readonly width: number,
    private readonly count: number,
    private readonly normalize: boolean,
  ) {
    super();
    this.layer = this.child('1', new Linear(width, count * width, { weight: zeros([count * width, width]) }));
  }

  /** [B, D] -> `count` of [B, D] */
  forward(activated: Tensor): Tensor[] {
    let vectors = this.layer.forward(activated);
    if (this.normalize) {
      vectors = reshape(rmsNorm(reshape(vectors, [-1, this.count, this.width])), vectors.shape);
    }
    return split(vectors, this.count, 1);
  }
}

/** A transformer block with adaLN-zero. x [B, S, D], condition [B, D] after SiLU -> [B, S, D] */
export class DiTBlock extends Module {
  private readonly attn: Attention;
  private readonly mlp: Mlp;
  private readonly modulation: Modulation;
  private readonly modulated: Modulated;

  constructor(
    width: number,
    heads: number,
    options: {
      mlpRatio?: number;
      /** What normalises the tokens before they are modulated. Default 'rms'. */
      norm?: TokenNorm;
      qkNorm?: boolean;
      modNorm?: boolean;
      makeWeight?: (outputs: number, inputs: number) => Tensor;
    } = {},
  ) {
    super();
    const { mlpRatio = 4, norm = 'rms', qkNorm = true, modNorm = false, makeWeight = xavierUniform } = options;
    this.modulated = modulated[norm];
    this.attn = this.child('attn', new Attention(width, heads, { qkNorm, makeWeight }));
    this.mlp = this.child('mlp', new Mlp(width, Math.round(width * mlpRatio), makeWeight));
    this.modulation = this.child('adaLN_modulation', new Modulation(width, 6, modNorm));
  }

  forward(x: Tensor, activated: Tensor): Tensor {
    const [shift1, scale1, gate1, shift2, scale2, gate2] = this.modulation.forward(activated) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const attended = gatedResidual(x, gate1, this.attn.forward(this.modulated(x, shift1, scale1)));
    return gatedResidual(attended, gate2, this.mlp.forward(this.modulated(attended, shift2, scale2)));
  }
}

export class PatchEmbedding extends Module {
  constructor(channels: number, patch: number, width: number, makeWeight: (o: number, i: number) => Tensor) {
    super();
    const weight = tidy(() => reshape(makeWeight(width, channels * patch * patch), [width, channels, patch, patch]));
    this.parameter('proj.weight', weight);
    this.parameter('proj.bias', zeros([width]));
  }

  /** [B, T, C p p] -> [B, T, D] */
  forward(patches: Tensor): Tensor {
    const weight = this.get('proj.weight');
    return linear(patches, reshape(weight, [weight.shape[0]!, -1]), this.get('proj.bias'));
  }
}

export class ClassEmbedding extends Module {
  private readonly table: Embedding;

  constructor(
    private readonly classes: number,
    width: number,
    std: number,
    generator?: Generator,
  ) {
    super();
    this.table = this.child('embedding_table', new Embedding(classes + 1, width, { std, generator }));
  }

  /** int32 [B], −1 for no class, whose row is the last -> [B, D] */
  forward(labels: Tensor): Tensor {
    return this.table.forward(where(less(labels, 0), this.classes, labels));
  }
}

export class FinalLayer extends Module {
  private readonly layer: Linear;
  private readonly modulation: Modulation;

  constructor(
    width: number,
    outputs: number,
    modNorm: boolean,
    private readonly norm: TokenNorm,
  ) {
    super();
    this.layer = this.child('linear', new Linear(width, outputs, { weight: zeros([outputs, width]) }));
    this.modulation = this.child('adaLN_modulation', new Modulation(width, 2, modNorm));
  }

  forward(x: Tensor, activated: Tensor): Tensor {
    const [shift, scale] = this.modulation.forward(activated) as [Tensor, Tensor];
    return this.layer.forward(modulated[this.norm](x, shift, scale));
  }
}

/** Fixed 2-D positions: half the width from the column, half from the row, each half sines and half cosines. [1, T, D] */
export function positions(side: number, width: number): Tensor {
  const quarter = width / 4;
  const values = new Float64Array(side * side * width);
  for (let token = 0; token < side * side; token++) {
    const [row, column] = [Math.floor(token / side), token % side];
    for (const [half, place] of [column, row].entries()) {
      for (let i = 0; i < quarter; i++) {
        const phase = place / 10000 ** (i / quarter);
        values[token * width + half * 2 * quarter + i] = Math.sin(phase);
        values[token * width + half * 2 * quarter + quarter + i] = Math.cos(phase);
      }
    }
  }
  return tensor(values, { shape: [1, side * side, width], dtype: 'float32' });
}
