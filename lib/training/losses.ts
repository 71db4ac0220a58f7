// The batch and the loss of a stage, as its configuration says.
import type { DiT } from '../nn/dit';
import { driftingLoss } from '../objectives/drifting';
import { immCases, immLoss } from '../objectives/imm';
import { immMapping } from '../objectives/immMapping';
import { meanFlowLoss } from '../objectives/meanFlow';
import { flowMatchingLoss, tvmLoss } from '../objectives/tvm';
import { drawFlowMatchingBatch, drawTvmBatch } from '../objectives/tvmBatch';
import type { Generator } from '../random';
import type { Tensor } from '../tensor';
import { groupSize, mappingOptions, type Stage } from './config';

/** The loss, and the terms it is made of. */
export type Losses = { loss: Tensor } & Record<string, Tensor>;

export interface Situation {
  net: DiT;
  /** Only Terminal Velocity Matching has one. */
  teacher: ReadonlyMap<string, Tensor> | null;
  generator: Generator;
}

/** What a loss is of. Beside x [B, C, H, W] and labels int32 [B], what its objective draws beforehand. */
export interface StageBatch {
  x: Tensor;
  labels: Tensor | null;
  [drawn: string]: Tensor | boolean | null;
}

/** Whether {@link drawBatch} draws all that the loss needs from the host, so that its step can be recorded. */
export function isDrawnBeforehand({ objective }: Stage): boolean {
  return objective === 'flowMatching' || objective === 'tvm';
}

/** Draws what is drawn before the loss. */
export function drawBatch(
  stage: Stage,
  { x, labels }: { x: Tensor; labels: Tensor | null },
  { net, generator }: Pick<Situation, 'net' | 'generator'>,
): StageBatch {
  const common = { labelDropout: stage.labelDropout ?? 0.1, generator };
  if (stage.objective === 'flowMatching') {
    return { ...drawFlowMatchingBatch({ x, labels }, { ...common, times: stage.times }) };
  }
  if (stage.objective !== 'tvm') return { x, labels };
  const { cfg, gap, s, sPrime, startShare, startS } = stage;
  const guidance = cfg !== undefined ? { cfg } : net.options.guidance ? ('beta' as const) : { cfg: 1 };
  return { ...drawTvmBatch({ x, labels }, { ...common, guidance, times: { gap, s, sPrime, startShare, startS } }) };
}

/** Of a batch that {@link drawBatch} gave. */
export function lossOf(stage: Stage, batch: StageBatch, { net, teacher, generator }: Situation): Losses {
  const common = { labelDropout: stage.labelDropout ?? 0.1, generator };
  const { x, labels } = batch;
  switch (stage.objective) {
    case 'flowMatching':
      return { ...flowMatchingLoss(net, batch) };
    case 'tvm': {
      const { doScaleParam, detachJvp } = stage;
      return { ...tvmLoss(net, teacher!, batch, { doScaleParam, detachJvp }) };
    }
    case 'imm': {
      const { kernel, bandwidths, unbiased, timeScale, inputScaling } = stage;
      const mapping = immMapping(mappingOptions(stage));
      const particles = groupSize(stage);
      const options = { ...common, mapping, particles, kernel, bandwidths, unbiased, timeScale, inputScaling };
      return { ...immLoss(net, { x, labels }, options) };
    }
    case 'consistency': {
      const { timeScale, inputScaling } = stage;
      const mapping = immMapping(mappingOptions(stage));
      const options = { ...common, mapping, timeScale, inputScaling, ...immCases.ct(mapping) };
      return { ...immLoss(net, { x, labels }, options) };
    }
    case 'meanFlow': {
      const { times, equalShare, power, offset, cfg } = stage;
      return { ...meanFlowLoss(net, { x, labels }, { ...common, times, equalShare, power, offset, cfg }) };
    }
    case 'drifting': {
      const { kernel = 'laplace', bandwidths, step } = stage;
      return {
        ...driftingLoss(net, { x, labels }, { ...common, particles: groupSize(stage), kernel, bandwidths, step }),
      };
    }
    default:
      throw new Error(`train: unknown objective ${(stage satisfies never as Stage).objective}`);
  }
}
