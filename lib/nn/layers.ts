// The layers everything is built from.
import { ones, tensor, zeros } from '../create';
import { tidy } from '../memory';
import { silu } from '../ops/activation';
import { cos, sin } from '../ops/elementwise';
import { embedding } from '../ops/gather';
import { linear } from '../ops/matmul';
import { rmsNorm } from '../ops/norm';
import { concat } from '../ops/shape';
import { type Generator, randn } from '../random';
import type { Tensor } from '../tensor';
import { xavierUniform } from './init';
import { type Constant, Module } from './module';

export interface LinearOptions {
  /** Default true. */
  bias?: boolean;
  /** The starting weight, [out, in], which the layer takes over. Default Xavier-uniform. */
  weight?: Tensor;
  generator?: Generator;
}

/** x weightᵀ + bias. [..., in] -> [..., out]. Keys: weight [out, in], bias [out]. */
export class Linear extends Module {
  private readonly hasBias: boolean;

  constructor(inputs: number, outputs: number, options: LinearOptions = {}) {
    super();
    this.hasBias = options.bias ?? true;
    this.parameter('weight', options.weight ?? xavierUniform(outputs, inputs, options.generator));
    if (this.hasBias) this.parameter('bias', zeros([outputs]));
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.get('weight'), this.hasBias ? this.get('bias') : null);
  }
}

/** Root-mean-square normalisation. [..., D] -> [..., D]. Key, unless `weight` is off: weight [D]. */
export class RMSNorm extends Module {
  constructor(
    width: number,
    private readonly options: { eps?: number; weight?: boolean } = {},
  ) {
    super();
    if (options.weight ?? true) this.parameter('weight', ones([width]));
  }

  /** The weight, for kernels that fold the normalisation in; null where there is none. */
  get scale(): Tensor | null {
    return (this.options.weight ?? true) ? this.get('weight') : null;
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.scale, { eps: this.options.eps ?? 1e-6 });
  }
}

/** Rows of a table. int32 [...] -> [..., D]. Key: weight [count, D]. */
export class Embedding extends Module {
  constructor(count: number, width: number, options: { std?: number; generator?: Generator } = {}) {
    super();
    this.parameter(
      'weight',
      tidy(() => randn([count, width], { generator: options.generator }).mul(options.std ?? 1)),
    );
  }

  forward(ids: Tensor): Tensor {
    return embedding(this.get('weight'), ids);
  }
}

export interface TimestepOptions {
  /** Sinusoids: half cosines, half sines. Default 256. */
  frequencies?: number;
  /** Highest and lowest angular frequency, geometrically spaced. Default: exp(−ln(10000) · i / half). */
  range?: readonly [highest: number, lowest: number];
  /** Standard deviation of the starting weights. Default 0.02. */
  std?: number;
  generator?: Generator;
}

/**
 * A scalar as a vector: sinusoids of it, whose phases are computed in float64, through two linear layers with SiLU between.
 * [B] -> [B, D]. Keys: mlp.0 and mlp.2, each weight and bias.
 */
export class TimestepEmbedding extends Module {
  private readonly first: Linear;
  private readonly second: Linear;
  private readonly omega: Constant;

  constructor(width: number, options: TimestepOptions = {}) {
    super();
    const { frequencies = 256, range, std = 0.02, generator } = options;
    const half = frequencies / 2;
    const omega = Float64Array.from({ length: half }, (_, i) =>
      range
        ? range[0] * (range[1] / range[0]) ** (half === 1 ? 0 : i / (half - 1))
        : Math.exp((-Math.log(10000) * i) / half),
    );
    this.omega = this.constant(tensor(omega, { shape: [1, half] }));
    const normal = (rows: number, columns: number) => tidy(() => randn([rows, columns], { generator }).mul(std));
    this.first = this.child('mlp.0', new Linear(frequencies, width, { weight: normal(width, frequencies) }));
    this.second = this.child('mlp.2', new Linear(width, width, { weight: normal(width, width) }));
  }

  forward(t: Tensor, dtype: 'float32' | 'float64' | 'bfloat16' | 'float16' = 'float32'): Tensor {
    const phase = t.to({ dtype: 'float64' }).reshape([-1, 1]).mul(this.omega.value);
    const waves = concat([cos(phase), sin(phase)], 1).to({ dtype });
    return this.second.forward(silu(this.first.forward(waves)));
  }
}
