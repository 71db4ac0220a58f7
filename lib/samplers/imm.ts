// Sampling with a network of Inductive Moment Matching (arXiv 2503.07565): jumps from time to time, or to the end and
// back into noise. Guidance combines F before the map, at the price of a second evaluation.
import { noGrad } from '../autograd/tape';
import { full } from '../create';
import { ArgumentError, ShapeError } from '../errors';
import { tidy } from '../memory';
import type { ImmMapping } from '../objectives/immMapping';
import { checkImmOptions, evaluate, type ImmEvaluateOptions, type ImmNetwork } from '../objectives/immNetwork';
import { add, mul, sub } from '../ops/elementwise';
import { concat, slice } from '../ops/shape';
import { defaultGenerator, type Generator, randn } from '../random';
import type { Tensor } from '../tensor';
import { checkFalling, type TimeGridOptions, timeGrid } from './timeGrid';

export interface PushforwardOptions extends ImmEvaluateOptions, TimeGridOptions {
  mapping: ImmMapping;
  /** The times to visit, falling, at least two; instead of steps and grid. */
  times?: readonly number[];
  /** cfg: F = F_none + cfg (F_class − F_none). 1 is none. Default 1. */
  guidance?: number;
}

export interface RestartOptions extends PushforwardOptions {
  /** What noise is drawn from. Default: the default generator. */
  generator?: Generator;
  /** Noise of standard deviation sigmaData like the latents, one tensor for each step but the last. Default: drawn. */
  noise?: readonly Tensor[];
}

export interface ImmSamples {
  /** [B, ...] */
  samples: Tensor;
  /** How often the network was evaluated per sample: once a step, with guidance twice. */
  evaluations: number;
}

/** Checks everything before the first evaluation. */
function prepare(op: string, net: ImmNetwork, latents: Tensor, options: PushforwardOptions) {
  checkImmOptions(op, net, options);
  const { mapping, steps, grid, mid, rho, times, guidance = 1, labels = null } = options;
  if (latents.rank < 1) throw new ShapeError(op, 'latents must have shape [B, ...], got []');
  if (!Number.isFinite(guidance)) throw new ArgumentError(op, `guidance must be a finite number, got ${guidance}`);
  const guided = guidance !== 1;
  if (guided && !labels) throw new ArgumentError(op, `labels must be given where guidance is not 1, got none`);
  if (times && Object.values({ steps, grid, mid, rho }).some((value) => value !== undefined)) {
    throw new ArgumentError(op, 'times must be given alone or left to steps, grid, mid and rho, got both');
  }
  if (times) checkFalling(op, 'times', times);
  const path = times ? [...times] : timeGrid({ mapping, steps, grid, mid, rho });
  const size = latents.shape[0]!;
  /** f_{t→s}(x), guided. */
  const jump = (x: Tensor, t: number, s: number): Tensor => {
    const rows = (time: number, count = size) => new Array<number>(count).fill(time);
    let F: Tensor;
    if (guided) {
      const none = full([size], -1, { dtype: 'int32', device: x.device });
      const both = evaluate(net, concat([x, x]), rows(t, 2 * size), rows(s, 2 * size), {
        ...options,
        labels: concat([labels!, none]),
      });
      const without = slice(both, [size], [2 * size]);
      F = add(without, mul(sub(slice(both, [0], [size]), without), guidance));
    } else {
      F = evaluate(net, x, rows(t), rows(s), options);
    }
    return mapping.f(x, F, rows(t), rows(s));
  };
  return { path, jump, evaluations: (path.length - 1) * (guided ? 2 : 1) };
}

/**
 * x ← f_{t_i→t_{i+1}}(x) along falling times, deterministic. With guidance both evaluations of a step are one batch.
 *
 * @param latents noise of standard deviation sigmaData, taken for x at the first time. [B, ...] -> [B, ...]
 * @throws ArgumentError if an option is unknown or out of range, does not fit the network, or guidance lacks labels
 */
export function samplePushforward(net: ImmNetwork, latents: Tensor, options: PushforwardOptions): ImmSamples {
  const { path, jump, evaluations } = prepare('samplePushforward', net, latents, options);
  const samples = tidy(() =>
    noGrad(() => {
      let x = latents;
      for (let i = 1; i < path.length; i++) x = tidy(() => jump(x, path[i - 1]!, path[i]!));
      return x;
    }),
  );
  return { samples, evaluations };
}

/**
 * y = f_{t_i→ε}(x), ε the last time, then x ~ q(x_{t_{i+1}} | x_ε = y): for ε = 0 α y + σ n. The last step ends at y.
 *
 * @param latents noise of standard deviation sigmaData, taken for x at the first time. [B, ...] -> [B, ...]
 * @throws ArgumentError as {@link samplePushforward}, and if the number of noise tensors is not that of the steps less one;
 * ShapeError if one has another shape than the latents
 */
export function sampleRestart(net: ImmNetwork, latents: Tensor, options: RestartOptions): ImmSamples {
  const op = 'sampleRestart';
  const { path, jump, evaluations } = prepare(op, net, latents, options);
  const { mapping, generator = defaultGenerator, noise } = options;
  const { dtype, device, shape } = latents;
  if (noise && noise.length !== path.length - 2) {
    throw new ArgumentError(op, `noise must hold ${path.length - 2} tensors, got ${noise.length}`);
  }
  for (const [i, n] of noise?.entries() ?? []) {
    if (n.shape.join() !== shape.join()) {
      throw new ShapeError(
        op,
        `noise ${i} must have the shape [${shape.join(', ')}] of latents, got [${n.shape.join(', ')}]`,
      );
    }
  }
  const end = path.at(-1)!;
  const [alphaEnd, sigmaEnd] = [mapping.alpha(end), mapping.sigma(end)];
  const renoise = (y: Tensor, t: number, n: Tensor): Tensor => {
    const kept = mapping.alpha(t) / alphaEnd;
    const there = kept * sigmaEnd;
    // √(σ_t² − (kept σ_ε)²), as a product: nothing is lost where t is close to ε.
    const spread = Math.sqrt((mapping.sigma(t) - there) * (mapping.sigma(t) + there));
    return add(mul(y, kept), mul(n, spread));
  };
  const samples = tidy(() =>
    noGrad(() => {
      let x = latents;
      for (let i = 1; i < path.length; i++) {
        x = tidy(() => {
          const y = jump(x, path[i - 1]!, end);
          if (i === path.length - 1) return y;
          const n = noise?.[i - 1] ?? mul(randn(shape, { dtype, device, generator }), mapping.options.sigmaData);
          return renoise(y, path[i]!, n);
        });
      }
      return x;
    }),
  );
  return { samples, evaluations };
}
