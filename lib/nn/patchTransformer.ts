// The trunk that the diffusion transformers share: patches in, blocks modulated by times and class, patches out; and the
// names and shapes of its state, which can be had without allocating it.
import { checkpoint } from '../autograd/checkpoint';
import { full } from '../create';
import type { DType } from '../dtype';
import { ArgumentError, ShapeError } from '../errors';
import { silu } from '../ops/activation';
import { permute, reshape } from '../ops/shape';
import type { Generator } from '../random';
import type { Tensor } from '../tensor';
import { ClassEmbedding, DiTBlock, FinalLayer, PatchEmbedding, positions, type TokenNorm } from './ditParts';
import { spectralNormal, xavierUniform } from './init';
import { TimestepEmbedding } from './layers';
import { functionalCall, Module } from './module';

export interface PatchTransformerOptions {
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
  /** Hidden width of the MLPs over width. Default 4. */
  mlpRatio?: number;
  /** Start of the linear layers: divided by its spectral norm, or Xavier-uniform. */
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

/** In what the networks differ. */
export interface PatchTransformerKind {
  /** For messages. */
  name: string;
  norm: TokenNorm;
  qkNorm: boolean;
  modNorm: boolean;
  init: 'spectral' | 'xavier';
  /** Embedded scalars beside t and s, by the prefix of their keys. */
  scalars: readonly string[];
}

/** What a network is told beside x, t and s. */
export interface DiTCondition {
  /** int32 [B]; −1 stands for no class. Default: none. */
  labels?: Tensor | null;
  /** [B], 1 / cfg. Default 1. A network without a guidance embedder does not see it. */
  beta?: Tensor | null;
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

function checkOptions(name: string, options: PatchTransformerOptions): void {
  const { imageSize, patchSize, channels, width, depth, heads, classes } = options;
  for (const [key, value] of Object.entries({ imageSize, patchSize, channels, width, depth, heads })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new ArgumentError(name, `${key} must be a positive integer, got ${value}`);
    }
  }
  if (!Number.isInteger(classes) || classes < 0) {
    throw new ArgumentError(name, `classes must be an integer of at least 0, got ${classes}`);
  }
  if (imageSize % patchSize !== 0) {
    throw new ArgumentError(name, `patchSize must divide imageSize ${imageSize}, got ${patchSize}`);
  }
  if (width % heads !== 0 || width % 4 !== 0) {
    throw new ArgumentError(name, `width must be a multiple of heads and of 4, got ${width} with ${heads} heads`);
  }
}

/** Shapes of all tensors of such a network, by state-dict key. Nothing is allocated. */
export function patchTransformerShapes(
  options: PatchTransformerOptions,
  kind: PatchTransformerKind,
): Map<string, readonly number[]> {
  checkOptions(kind.name, options);
  const { imageSize, patchSize, channels, width, depth, heads, classes } = options;
  const { mlpRatio = 4, timeFrequencies = 256 } = options;
  const shapes = new Map<string, readonly number[]>();
  const layer = (name: string, outputs: number, inputs: number) => {
    shapes.set(`${name}.weight`, [outputs, inputs]);
    shapes.set(`${name}.bias`, [outputs]);
  };
  const hidden = Math.round(width * mlpRatio);
  shapes.set('pos_embed', [1, (imageSize / patchSize) ** 2, width]);
  layer('x_embedder.proj', width, channels);
  shapes.set('x_embedder.proj.weight', [width, channels, patchSize, patchSize]);
  for (const scalar of ['t', 's', ...kind.scalars]) {
    layer(`${scalar}_embedder.mlp.0`, width, timeFrequencies);
    layer(`${scalar}_embedder.mlp.2`, width, width);
  }
  if (classes > 0) shapes.set('y_embedder.embedding_table.weight', [classes + 1, width]);
  for (let i = 0; i < depth; i++) {
    layer(`blocks.${i}.attn.qkv`, 3 * width, width);
    for (const part of kind.qkNorm ? ['q', 'k'] : [])
      shapes.set(`blocks.${i}.attn.${part}_norm.weight`, [width / heads]);
    layer(`blocks.${i}.attn.proj`, width, width);
    layer(`blocks.${i}.mlp.fc1`, hidden, width);
    layer(`blocks.${i}.mlp.fc2`, width, hidden);
    layer(`blocks.${i}.adaLN_modulation.1`, 6 * width, width);
  }
  layer('final_layer.linear', patchSize * patchSize * channels, width);
  layer('final_layer.adaLN_modulation.1', 2 * width, width);
  return shapes;
}

/** Base of {@link DiT} and {@link ImmDiT}. */
export abstract class PatchTransformer extends Module {
  private readonly patches: PatchEmbedding;
  private readonly tEmbedder: TimestepEmbedding;
  private readonly sEmbedder: TimestepEmbedding;
  private readonly scalars: TimestepEmbedding[];
  private readonly classes: ClassEmbedding | null = null;
  private readonly blocks: DiTBlock[];
  private readonly final: FinalLayer;

  protected constructor(
    private readonly layout: PatchTransformerOptions,
    private readonly kind: PatchTransformerKind,
  ) {
    super();
    checkOptions(kind.name, layout);
    const { imageSize, patchSize, channels, width, depth, heads, classes, generator } = layout;
    const {
      mlpRatio = 4,
      init = kind.init,
      labelStd = 0.02,
      timeStd = 0.02,
      timeFrequencies = 256,
      timeRange,
    } = layout;
    const { norm, qkNorm, modNorm } = kind;
    const make = init === 'spectral' ? spectralNormal : xavierUniform;
    const makeWeight = (outputs: number, inputs: number) => make(outputs, inputs, generator);
    const scalar = (name: string) =>
      this.child(
        `${name}_embedder`,
        new TimestepEmbedding(width, { frequencies: timeFrequencies, range: timeRange, std: timeStd, generator }),
      );
    this.patches = this.child('x_embedder', new PatchEmbedding(channels, patchSize, width, makeWeight));
    this.tEmbedder = scalar('t');
    this.sEmbedder = scalar('s');
    this.scalars = kind.scalars.map(scalar);
    if (classes > 0) this.classes = this.child('y_embedder', new ClassEmbedding(classes, width, labelStd, generator));
    this.buffer('pos_embed', positions(imageSize / patchSize, width));
    this.blocks = Array.from({ length: depth }, (_, i) =>
      this.child(`blocks.${i}`, new DiTBlock(width, heads, { mlpRatio, norm, qkNorm, modNorm, makeWeight })),
    );
    this.final = this.child('final_layer', new FinalLayer(width, patchSize * patchSize * channels, modNorm, norm));
  }

  /** @throws ShapeError unless x is [B, C, H, W] of the network's size and the times are [B] */
  protected check(x: Tensor, times: Record<string, Tensor>): void {
    const { imageSize, channels } = this.layout;
    const [batch] = x.shape;
    if (x.rank !== 4 || x.shape.slice(1).join() !== [channels, imageSize, imageSize].join()) {
      const expected = `[B, ${channels}, ${imageSize}, ${imageSize}]`;
      throw new ShapeError(this.kind.name, `x must have shape ${expected}, got [${x.shape.join(', ')}]`);
    }
    for (const [name, time] of Object.entries(times)) {
      if (time.rank !== 1 || time.shape[0] !== batch) {
        throw new ShapeError(this.kind.name, `${name} must have shape [${batch}], got [${time.shape.join(', ')}]`);
      }
    }
  }

  /**
   * The network on what was checked: x [B, C, H, W], both times as they are embedded, labels, and the values of
   * `kind.scalars` -> [B, C, H, W], in the dtype of x whatever that of the parameters.
   */
  protected transform(
    x: Tensor,
    [first, second]: readonly [Tensor, Tensor],
    labels: Tensor | null,
    scalars: readonly Tensor[],
  ): Tensor {
    const { imageSize, patchSize, channels, checkpoint: recompute = false } = this.layout;
    const [batch] = x.shape;
    const dtype = this.dtype as 'float32';
    const side = imageSize / patchSize;
    const split4 = reshape(x.to({ dtype }), [batch!, channels, side, patchSize, side, patchSize]);
    const patches = reshape(permute(split4, [0, 2, 4, 1, 3, 5]), [batch!, side * side, -1]);
    let tokens = this.patches.forward(patches).add(this.get('pos_embed'));
    let sum = this.tEmbedder.forward(first, dtype).add(this.sEmbedder.forward(second, dtype));
    if (this.classes) {
      sum = sum.add(this.classes.forward(labels ?? full([batch!], -1, { dtype: 'int32', device: x.device })));
    } else if (labels) {
      throw new ArgumentError(this.kind.name, 'labels must be absent: the network was made with classes 0');
    }
    for (const [i, embedder] of this.scalars.entries()) sum = sum.add(embedder.forward(scalars[i]!, dtype));
    const activated = silu(sum);
    for (const block of this.blocks) {
      tokens = recompute ? recomputed(block, tokens, activated) : block.forward(tokens, activated);
    }
    const out = reshape(this.final.forward(tokens, activated), [batch!, side, side, patchSize, patchSize, channels]);
    return reshape(permute(out, [0, 5, 1, 3, 2, 4]), x.shape).to({ dtype: x.dtype });
  }

  /** Where the parameters are. */
  get device(): string {
    return this.get('pos_embed').device;
  }

  /** What the parameters are stored in. */
  get dtype(): DType {
    return this.get('pos_embed').dtype;
  }
}
