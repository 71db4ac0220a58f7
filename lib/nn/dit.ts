// The diffusion transformer of Terminal Velocity Matching (arXiv 2511.19797): RMSNorm for LayerNorm, RMSNorm on q and k,
// adaLN-zero, three embedded scalars (t, t − s, guidance) beside the class. State-dict keys are the published ones.
import { checkpoint } from '../autograd/checkpoint';
import { full, tensor, zeros } from '../create';
import type { DType } from '../dtype';
import { ArgumentError, ShapeError } from '../errors';
import { tidy } from '../memory';
import { gelu, silu } from '../ops/activation';
import { attention } from '../ops/attention';
import { less, where } from '../ops/compare';
import { linear } from '../ops/matmul';
import { gatedResidual, rmsNorm, splitQkv } from '../ops/norm';
import { rmsNormModulate } from '../ops/normModulate';
import { permute, reshape, split } from '../ops/shape';
import type { Generator } from '../random';
import type { Tensor } from '../tensor';
import { spectralNormal, xavierUniform } from './init';
import { Embedding, Linear, RMSNorm, TimestepEmbedding } from './layers';
import { functionalCall, Module } from './module';

export interface DiTOptions {
  /** Height and width of the images, in pixels. */
  imageSize: number;
  /** Side of a patch; must divide imageSize. */
  patchSize: number;
  channels: number;
  width: number;
  depth: number;
  /** Attention heads; must divide width. */
  heads: number;
  /** Number of classes; 0 for none. */
  classes: number;
  /** Embed beta = 1 / cfg as a third scalar. Default false. */
  guidance?: boolean;
  /** RMS-normalise each modulation vector. Its zero start makes the first gradients 1/√eps larger. Default false. */
  modNorm?: boolean;
  /** RMS-normalise q and k per head, with weights. Default true. */
  qkNorm?: boolean;
  /** Hidden width of the MLPs over width. Default 4. */
  mlpRatio?: number;
  /** Start of the linear layers: divided by its spectral norm (published), or Xavier-uniform. Default 'spectral'. */
  init?: 'spectral' | 'xavier';
  /** Standard deviation of the class table's start. Default 0.02. */
  labelStd?: number;
  /** Standard deviation of the scalar embedders' start. Default 0.02. */
  timeStd?: number;
  /** Sinusoids of the scalar embedders. Default 256. */
  timeFrequencies?: number;
  /** Highest and lowest angular frequency of them. Default: the published geometric series. */
  timeRange?: readonly [number, number];
  /** Recompute each block in the backward pass instead of keeping its values. Default false. */
  checkpoint?: boolean;
  generator?: Generator;
}

export interface DiTCondition {
  /** int32 [B]; −1 stands for no class. Default: none. */
  labels?: Tensor | null;
  /** [B], 1 / cfg. Default 1. A network without a guidance embedder, whose cfg is fixed in training, does not see it. */
  beta?: Tensor | null;
}

/** The published sizes, all with patches of 2. */
export const ditPresets = {
  'S/2': { patchSize: 2, width: 384, depth: 12, heads: 6 },
  'B/2': { patchSize: 2, width: 768, depth: 12, heads: 12 },
  'L/2': { patchSize: 2, width: 1024, depth: 24, heads: 16 },
  'XL/2': { patchSize: 2, width: 1152, depth: 28, heads: 18 },
} as const;

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

  constructor(
    width: number,
    heads: number,
    options: {
      mlpRatio?: number;
      qkNorm?: boolean;
      modNorm?: boolean;
      makeWeight?: (outputs: number, inputs: number) => Tensor;
    } = {},
  ) {
    super();
    const { mlpRatio = 4, qkNorm = true, modNorm = false, makeWeight = xavierUniform } = options;
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
    const attended = gatedResidual(x, gate1, this.attn.forward(rmsNormModulate(x, shift1, scale1)));
    return gatedResidual(attended, gate2, this.mlp.forward(rmsNormModulate(attended, shift2, scale2)));
  }
}

class PatchEmbedding extends Module {
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

class ClassEmbedding extends Module {
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

class FinalLayer extends Module {
  private readonly layer: Linear;
  private readonly modulation: Modulation;

  constructor(width: number, outputs: number, modNorm: boolean) {
    super();
    this.layer = this.child('linear', new Linear(width, outputs, { weight: zeros([outputs, width]) }));
    this.modulation = this.child('adaLN_modulation', new Modulation(width, 2, modNorm));
  }

  forward(x: Tensor, activated: Tensor): Tensor {
    const [shift, scale] = this.modulation.forward(activated) as [Tensor, Tensor];
    return this.layer.forward(rmsNormModulate(x, shift, scale));
  }
}

/** Fixed 2-D positions: half the width from the column, half from the row, each half sines and half cosines. [1, T, D] */
function positions(side: number, width: number): Tensor {
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

// The parameters go in as an argument: in the backward pass nothing stands in for the block's own any more.
function recomputed(block: DiTBlock, tokens: Tensor, activated: Tensor): Tensor {
  const run = checkpoint(
    (x: Tensor, c: Tensor, parameters: Map<string, Tensor>) =>
      functionalCall(block, parameters, () => block.forward(x, c)),
    { captures: [] },
  );
  return run(tokens, activated, block.stateDict());
}

/** A flow-map network F(x, t, s, class, beta). */
export class DiT extends Module {
  readonly options: Readonly<DiTOptions>;
  private readonly patches: PatchEmbedding;
  private readonly tEmbedder: TimestepEmbedding;
  private readonly sEmbedder: TimestepEmbedding;
  private readonly guidanceEmbedder: TimestepEmbedding | null = null;
  private readonly classes: ClassEmbedding | null = null;
  private readonly blocks: DiTBlock[];
  private readonly final: FinalLayer;

  constructor(options: DiTOptions) {
    super();
    this.options = { ...options };
    const { imageSize, patchSize, channels, width, depth, heads, classes, generator } = options;
    for (const [name, value] of Object.entries({ imageSize, patchSize, channels, width, depth, heads })) {
      if (!Number.isInteger(value) || value < 1) {
        throw new ArgumentError('DiT', `${name} must be a positive integer, got ${value}`);
      }
    }
    if (!Number.isInteger(classes) || classes < 0) {
      throw new ArgumentError('DiT', `classes must be an integer of at least 0, got ${classes}`);
    }
    if (imageSize % patchSize !== 0) {
      throw new ArgumentError('DiT', `patchSize must divide imageSize ${imageSize}, got ${patchSize}`);
    }
    if (width % heads !== 0 || width % 4 !== 0) {
      throw new ArgumentError('DiT', `width must be a multiple of heads and of 4, got ${width} with ${heads} heads`);
    }
    const { guidance = false, modNorm = false, qkNorm = true, mlpRatio = 4, init = 'spectral' } = options;
    const { labelStd = 0.02, timeStd = 0.02, timeFrequencies = 256, timeRange } = options;
    const make = init === 'spectral' ? spectralNormal : xavierUniform;
    const makeWeight = (outputs: number, inputs: number) => make(outputs, inputs, generator);
    const scalar = () =>
      new TimestepEmbedding(width, { frequencies: timeFrequencies, range: timeRange, std: timeStd, generator });
    this.patches = this.child('x_embedder', new PatchEmbedding(channels, patchSize, width, makeWeight));
    this.tEmbedder = this.child('t_embedder', scalar());
    this.sEmbedder = this.child('s_embedder', scalar());
    if (guidance) this.guidanceEmbedder = this.child('guidance_embedder', scalar());
    if (classes > 0) this.classes = this.child('y_embedder', new ClassEmbedding(classes, width, labelStd, generator));
    this.buffer('pos_embed', positions(imageSize / patchSize, width));
    this.blocks = Array.from({ length: depth }, (_, i) =>
      this.child(`blocks.${i}`, new DiTBlock(width, heads, { mlpRatio, qkNorm, modNorm, makeWeight })),
    );
    this.final = this.child('final_layer', new FinalLayer(width, patchSize * patchSize * channels, modNorm));
  }

  /**
   * F(x, t, s): x [B, C, H, W], t [B], s [B] -> [B, C, H, W], in the dtype of x whatever that of the parameters.
   *
   * @throws ShapeError if x is not of the network's image size
   */
  forward(x: Tensor, t: Tensor, s: Tensor, condition: DiTCondition = {}): Tensor {
    const { imageSize, patchSize, channels, checkpoint: recompute = false } = this.options;
    const [batch] = x.shape;
    if (x.rank !== 4 || x.shape.slice(1).join() !== [channels, imageSize, imageSize].join()) {
      const expected = `[B, ${channels}, ${imageSize}, ${imageSize}]`;
      throw new ShapeError('DiT', `x must have shape ${expected}, got [${x.shape.join(', ')}]`);
    }
    for (const [name, time] of [
      ['t', t],
      ['s', s],
    ] as const) {
      if (time.rank !== 1 || time.shape[0] !== batch) {
        throw new ShapeError('DiT', `${name} must have shape [${batch}], got [${time.shape.join(', ')}]`);
      }
    }
    const dtype = this.get('pos_embed').dtype as 'float32';
    const side = imageSize / patchSize;
    const split4 = reshape(x.to({ dtype }), [batch!, channels, side, patchSize, side, patchSize]);
    const patches = reshape(permute(split4, [0, 2, 4, 1, 3, 5]), [batch!, side * side, -1]);
    let tokens = this.patches.forward(patches).add(this.get('pos_embed'));
    const activated = silu(this.embedCondition(t, s, condition, dtype));
    for (const block of this.blocks) {
      tokens = recompute ? recomputed(block, tokens, activated) : block.forward(tokens, activated);
    }
    const out = reshape(this.final.forward(tokens, activated), [batch!, side, side, patchSize, patchSize, channels]);
    return reshape(permute(out, [0, 5, 1, 3, 2, 4]), x.shape).to({ dtype: x.dtype });
  }

  private embedCondition(t: Tensor, s: Tensor, { labels, beta }: DiTCondition, dtype: 'float32'): Tensor {
    let sum = this.tEmbedder.forward(t, dtype).add(this.sEmbedder.forward(t.sub(s), dtype));
    if (this.classes) {
      sum = sum.add(this.classes.forward(labels ?? full(t.shape, -1, { dtype: 'int32', device: t.device })));
    } else if (labels) {
      throw new ArgumentError('DiT', 'labels must be absent: the network was made with classes 0');
    }
    if (this.guidanceEmbedder) {
      sum = sum.add(
        this.guidanceEmbedder.forward(beta ?? full(t.shape, 1, { dtype: t.dtype, device: t.device }), dtype),
      );
    }
    return sum;
  }

  /** What the parameters are stored in. */
  get dtype(): DType {
    return this.get('pos_embed').dtype;
  }
}
