// The diffusion transformer of Inductive Moment Matching (arXiv 2503.07565): DiT with a second embedded time. LayerNorm
// without weights, no normalisation of q and k, adaLN-zero. State-dict keys are the published ones.
import type { Tensor } from '../tensor';
import {
  type DiTCondition,
  PatchTransformer,
  type PatchTransformerKind,
  type PatchTransformerOptions,
  patchTransformerShapes,
} from './patchTransformer';

export interface ImmDiTOptions extends PatchTransformerOptions {
  /** Start of the linear layers: divided by its spectral norm, or Xavier-uniform (published). Default 'xavier'. */
  init?: 'spectral' | 'xavier';
}

const sizes = {
  S: { width: 384, depth: 12, heads: 6 },
  B: { width: 768, depth: 12, heads: 12 },
  L: { width: 1024, depth: 24, heads: 16 },
  XL: { width: 1152, depth: 28, heads: 16 },
} as const;

type Size = keyof typeof sizes;
type Preset = { patchSize: number; width: number; depth: number; heads: number };

/** The published sizes with patches of 2, 4 and 8: 'S/2' … 'XL/8'. XL has 16 heads of 72. */
export const immDitPresets = Object.fromEntries(
  Object.entries(sizes).flatMap(([size, rest]) =>
    [2, 4, 8].map((patchSize) => [`${size}/${patchSize}`, { patchSize, ...rest }]),
  ),
) as Record<`${Size}/${2 | 4 | 8}`, Preset>;

const kind: PatchTransformerKind = {
  name: 'ImmDiT',
  norm: 'layer',
  qkNorm: false,
  modNorm: false,
  init: 'xavier',
  scalars: [],
};

/** Shapes of all tensors of `new ImmDiT(options)`, by state-dict key, without making it. */
export function immDitShapes(options: ImmDiTOptions): Map<string, readonly number[]> {
  return patchTransformerShapes(options, kind);
}

/**
 * The network F of Inductive Moment Matching, in the layout of the authors' ImageNet weights. It embeds both of its times
 * as they are given: scaling them (by 1000 in the published weights), and passing t − s where a network was trained so, is
 * the caller's. The published option of random Fourier features, which the published weights do not use, is not there.
 */
export class ImmDiT extends PatchTransformer {
  readonly options: Readonly<ImmDiTOptions>;
  /** The second time is embedded as given, not as a difference to the first. */
  readonly secondTime = 'raw';

  constructor(options: ImmDiTOptions) {
    super(options, kind);
    this.options = { ...options };
  }

  /**
   * F(x, t, s): x [B, C, H, W], t [B], s [B] -> [B, C, H, W], in the dtype of x whatever that of the parameters. It takes no
   * guidance: `beta` is not seen.
   *
   * @throws ShapeError if x is not of the network's image size
   */
  forward(x: Tensor, t: Tensor, s: Tensor, { labels = null }: DiTCondition = {}): Tensor {
    this.check(x, { t, s });
    return this.transform(x, [t, s], labels, []);
  }
}
