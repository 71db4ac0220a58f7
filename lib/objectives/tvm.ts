// Terminal Velocity Matching (arXiv 2511.19797). Symbols: x data, n noise, x_t = (1 − t) x + t n, v = n − x; F the network,
// w = cfg, β = 1/w, o = w with scaled parameterisation and 1 without; f(x_t, t, s) = x_t + (s − t) o F.
import { jvp } from '../autograd/forward';
import { stopGradient } from '../autograd/reverse';
import { noGrad } from '../autograd/tape';
import { full, onesLike } from '../create';
import type { DiTCondition } from '../nn/dit';
import { functionalCall, type Module } from '../nn/module';
import { greater, where } from '../ops/compare';
import { abs, add, mul, sub } from '../ops/elementwise';
import { mean } from '../ops/reduce';
import { concat, slice } from '../ops/shape';
import type { Tensor } from '../tensor';
import { checkFinite } from './checkFinite';
import { interpolate, perSample, sampleMean } from './rows';
import {
  drawFlowMatchingBatch,
  drawTvmBatch,
  type FlowMatchingBatch,
  type FlowMatchingOptions,
  type TvmBatch,
  type TvmDraws,
} from './tvmBatch';

/** A network F(x, t, s) on images or anything else with a leading batch axis. */
export interface FlowMapNetwork extends Module {
  forward(x: Tensor, t: Tensor, s: Tensor, condition?: DiTCondition): Tensor;
}

export interface TvmOptions extends TvmDraws {
  /** The network gives F / cfg: multiply it by cfg. Default false. */
  doScaleParam?: boolean;
  /** Stop the gradient of ∂F/∂s: cheaper, and early in training nearly as good. Default false. */
  detachJvp?: boolean;
}

export interface TvmResult {
  /** Mean over the batch of both terms, []. */
  loss: Tensor;
  /** [B] */
  terminal: Tensor;
  /** [B] */
  flowMatching: Tensor;
}

/** |s − t| below which the terminal term says nothing. */
const coincident = 1e-6;

/**
 * The loss of Terminal Velocity Matching, per sample and on average:
 * terminal = mean (β (df − T1))² with df = o (F + (s − t) ∂F/∂s), T1 = o F_teacher(f, s, s); flow matching =
 * mean (β (F' − [w v + (1 − w) T2]))² with F' = o F(x_s', s', s'), T2 = F_teacher(x_s', s', s') without class.
 * Gradients flow through F, ∂F/∂s and F'. What the batch leaves out is drawn; with everything given the loss is
 * deterministic.
 *
 * @param teacher an average of the network's parameters by name, or another network of its kind
 * @returns tensors that throw `NumericalError`, naming the batch row, when read if a term is not finite
 */
export function tvmLoss(
  net: FlowMapNetwork,
  teacher: ReadonlyMap<string, Tensor> | FlowMapNetwork,
  batch: TvmBatch,
  options: TvmOptions = {},
): TvmResult {
  const { doScaleParam = false, detachJvp = false, ...draws } = options;
  const { x, noise, labels, t, s, sPrime, beta, guided } = drawTvmBatch(batch, draws);
  const size = x.shape[0]!;
  const { dtype, device } = x;

  const w = perSample(beta.reciprocal(), x);
  const o = (F: Tensor) => (doScaleParam ? mul(F, w) : F);
  const step = perSample(sub(s, t), x);
  const xt = interpolate(x, noise, t);
  const xs = interpolate(x, noise, sPrime);
  const v = sub(noise, x);

  const [F, dF] = jvp((at: Tensor) => net.forward(xt, t, at, { labels, beta }), [s], [onesLike(s)]);
  const slope = detachJvp ? stopGradient(dF) : dF;
  const df = o(add(F, mul(step, slope)));
  const [T1, T2] = noGrad(() => {
    const f = add(xt, mul(step, o(stopGradient(F))));
    const run = (...[at, time, condition]: [Tensor, Tensor, DiTCondition]) => {
      const evaluate = (network: FlowMapNetwork) => network.forward(at, time, time, condition);
      return teacher instanceof Map
        ? functionalCall(net, teacher as ReadonlyMap<string, Tensor>, () => evaluate(net))
        : evaluate(teacher as FlowMapNetwork);
    };
    if (!guided) return [o(run(f, s, { labels, beta })), null];
    // Both of the teacher's evaluations in one batch.
    const none = full([size], -1, { dtype: 'int32', device });
    const one = full([size], 1, { dtype, device });
    const both = run(concat([f, xs]), concat([s, sPrime]), {
      labels: labels ? concat([labels, none]) : null,
      beta: concat([beta, one]),
    });
    return [o(slice(both, [0], [size])), slice(both, [size], [2 * size])];
  });
  const prime = o(net.forward(xs, sPrime, sPrime, { labels, beta }));
  const target = T2 ? add(mul(w, v), mul(sub(1, w), T2)) : v;

  const weight = perSample(beta, x);
  const term = (difference: Tensor) => sampleMean(mul(difference, weight).square());
  const apart = greater(abs(sub(s, t)), coincident);
  const terminal = checkFinite(where(apart, term(sub(df, stopGradient(T1!))), 0), 'terminal velocity loss');
  const flowMatching = checkFinite(term(sub(prime, stopGradient(target))), 'flow matching loss');
  return { loss: mean(add(terminal, flowMatching)), terminal, flowMatching };
}

/**
 * Flow matching (arXiv 2210.02747): mean (F(x_t, t, t) − v)², per sample and on average. The network learns its
 * instantaneous velocity, which Terminal Velocity Matching starts from.
 */
export function flowMatchingLoss(
  net: FlowMapNetwork,
  batch: FlowMatchingBatch,
  options: FlowMatchingOptions = {},
): { loss: Tensor; flowMatching: Tensor } {
  const { x, noise, labels, t } = drawFlowMatchingBatch(batch, options);
  const F = net.forward(interpolate(x, noise, t), t, t, { labels });
  const flowMatching = checkFinite(sampleMean(sub(F, sub(noise, x)).square()), 'flow matching loss');
  return { loss: mean(flowMatching), flowMatching };
}
