// The diffusion transformer of Terminal Velocity Matching (arXiv 2511.19797): RMSNorm for LayerNorm, RMSNorm on q and k,
// adaLN-zero, three embedded scalars (t, t − s, guidance) beside the class. State-dict keys are the published ones.
import { full } from '../create';
import type { Tensor } from '../tensor';
import {
  type DiTCondition,
  PatchTransformer,
  type PatchTransformerKind,
  type PatchTransformerOptions,
  patchTransformerShapes,
} from './patchTransformer';

export type { DiTCondition } from './patchTransformer';

export interface DiTOptions extends PatchTransformerOptions {
  /** Embed beta = 1 / cfg as a third scalar. Default false. */
  guidance?: boolean;
  /** RMS-normalise each modulation vector. Its zero start makes the first gradients 1/√eps larger. Default false. */
  modNorm?: boolean;
  /** RMS-normalise q and k per head, with weights. Default true. */
  qkNorm?: boolean;
  /** Start of the linear layers: divided by its spectral norm (published), or Xavier-uniform. Default 'spectral'. */
  init?: 'spectral' | 'xavier';
}

/** The published sizes, all with patches of 2. */
export const ditPresets = {
  'S/2': { patchSize: 2, width: 384, depth: 12, heads: 6 },
  'B/2': { patchSize: 2, width: 768, depth: 12, heads: 12 },
  'L/2': { patchSize: 2, width: 1024, depth: 24, heads: 16 },
  'XL/2': { patchSize: 2, width: 1152, depth: 28, heads: 18 },
} as const;

function kindOf({ guidance = false, modNorm = false, qkNorm = true }: DiTOptions): PatchTransformerKind {
  const scalars = guidance ? ['guidance'] : [];
  return { name: 'DiT', norm: 'rms', qkNorm, modNorm, init: 'spectral', scalars };
}

/** Shapes of all tensors of `new DiT(options)`, by state-dict key, without making it. */
export function ditShapes(options: DiTOptions): Map<string, readonly number[]> {
  return patchTransformerShapes(options, kindOf(options));
}

/** A flow-map network F(x, t, s, class, beta). */
export class DiT extends PatchTransformer {
  readonly options: Readonly<DiTOptions>;

  constructor(options: DiTOptions) {
    super(options, kindOf(options));
    this.options = { ...options };
  }

  /**
   * F(x, t, s): x [B, C, H, W], t [B], s [B] -> [B, C, H, W], in the dtype of x whatever that of the parameters.
   *
   * @throws ShapeError if x is not of the network's image size
   */
  forward(x: Tensor, t: Tensor, s: Tensor, { labels = null, beta }: DiTCondition = {}): Tensor {
    this.check(x, { t, s });
    const scalars = this.options.guidance ? [beta ?? full(t.shape, 1, { dtype: t.dtype, device: t.device })] : [];
    return this.transform(x, [t, t.sub(s)], labels, scalars);
  }
}
