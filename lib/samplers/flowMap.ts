// Sampling: jumping with a flow map, or integrating a velocity.
import { noGrad } from '../autograd/tape';
import { full } from '../create';
import { ArgumentError } from '../errors';
import { tidy } from '../memory';
import type { FlowMapNetwork } from '../objectives/tvm';
import { add, mul, sub } from '../ops/elementwise';
import { concat, reshape, slice } from '../ops/shape';
import type { Tensor } from '../tensor';

export interface FlowMapSamplerOptions {
  /** Jumps, and so network evaluations. Default 1. */
  steps?: number;
  /** int32 [B], −1 for no class. */
  labels?: Tensor | null;
  /** 1 / cfg, [B]: the guidance the network was trained with. Default 1. */
  beta?: Tensor | null;
  /** As in training. Default false. */
  doScaleParam?: boolean;
}

function checkSteps(op: string, steps: number): void {
  if (!Number.isInteger(steps) || steps < 1)
    throw new ArgumentError(op, `steps must be a positive integer, got ${steps}`);
}

/**
 * n jumps from t = 1 to 0 at even times: x ← x + (t_{i+1} − t_i) o F(x, t_i, t_{i+1}). One evaluation a step.
 * noise [B, ...] -> samples [B, ...]
 */
export function sampleFlowMap(net: FlowMapNetwork, noise: Tensor, options: FlowMapSamplerOptions = {}): Tensor {
  const { steps = 1, labels = null, beta = null, doScaleParam = false } = options;
  checkSteps('sampleFlowMap', steps);
  const { dtype, device } = noise;
  const size = noise.shape[0]!;
  return tidy(() =>
    noGrad(() => {
      const column = [size, ...new Array<number>(noise.rank - 1).fill(1)];
      const scale = doScaleParam && beta ? reshape(beta.reciprocal(), column) : null;
      let x = noise;
      for (let i = 0; i < steps; i++) {
        x = tidy(() => {
          const time = (k: number) => full([size], 1 - k / steps, { dtype, device });
          const F = net.forward(x, time(i), time(i + 1), { labels, beta });
          return add(x, mul(scale ? mul(F, scale) : F, -1 / steps));
        });
      }
      return x;
    }),
  );
}

export interface EulerSamplerOptions {
  /** Default 50. */
  steps?: number;
  labels?: Tensor | null;
  /** Classifier-free guidance: v = v_none + cfg (v_class − v_none). 1 is none. Default 1. */
  cfg?: number;
}

/**
 * Euler's method on the velocity F(x, t, t), which on straight paths is DDIM. With guidance a step evaluates the network
 * twice for every sample.
 *
 * @returns the samples and how often the network was evaluated per sample
 */
export function sampleEuler(
  net: FlowMapNetwork,
  noise: Tensor,
  options: EulerSamplerOptions = {},
): { samples: Tensor; evaluations: number } {
  const { steps = 50, labels = null, cfg = 1 } = options;
  checkSteps('sampleEuler', steps);
  if (!Number.isFinite(cfg)) throw new ArgumentError('sampleEuler', `cfg must be a finite number, got ${cfg}`);
  const { dtype, device } = noise;
  const size = noise.shape[0]!;
  const guided = labels !== null && cfg !== 1;
  const samples = tidy(() =>
    noGrad(() => {
      let x = noise;
      for (let i = 0; i < steps; i++) {
        x = tidy(() => {
          const time = full([guided ? 2 * size : size], 1 - i / steps, { dtype, device });
          let v: Tensor;
          if (guided) {
            const none = full([size], -1, { dtype: 'int32', device });
            const both = net.forward(concat([x, x]), time, time, { labels: concat([labels, none]) });
            const without = slice(both, [size], [2 * size]);
            v = add(without, mul(sub(slice(both, [0], [size]), without), cfg));
          } else {
            v = net.forward(x, time, time, { labels });
          }
          return sub(x, mul(v, 1 / steps));
        });
      }
      return x;
    }),
  );
  return { samples, evaluations: guided ? 2 * steps : steps };
}
