// The batch and the loss of a stage, as its configuration says.
import type { DiT } from '../nn/dit';
import { drawDriftingBatch, driftingLoss } from '../objectives/drifting';
import { immCases, immLoss } from '../objectives/imm';
import { drawImmBatch } from '../objectives/immBatch';
import { immMapping } from '../objectives/immMapping';
import { drawMeanFlowBatch, meanFlowLoss } from '../objectives/meanFlow';
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
}

/** What a loss is of. Beside x [B, C, H, W] and labels int32 [B], what its objective draws. */
export interface StageBatch {
  x: Tensor;
  labels: Tensor | null;
  [drawn: string]: Tensor | boolean | null;
}

const consistency = (stage: Extract<Stage, { objective: 'consistency' }>) => {
  const mapping = immMapping(mappingOptions(stage));
  return { mapping, ...immCases.ct(mapping) };
};

/** Draws all that is drawn before the loss, so that what is left of its step can be recorded. */
export function drawBatch(
  stage: Stage,
  batch: { x: Tensor; labels: Tensor | null },
  net: DiT,
  generator: Generator,
): StageBatch {
  const common = { labelDropout: stage.labelDropout ?? 0.1, generator };
  switch (stage.objective) {
    case 'flowMatching':
      return { ...drawFlowMatchingBatch(batch, { ...common, times: stage.times }) };
    case 'tvm': {
      const { cfg, gap, s, sPrime, startShare, startS } = stage;
      const guidance = cfg !== undefined ? { cfg } : net.options.guidance ? ('beta' as const) : { cfg: 1 };
      return { ...drawTvmBatch(batch, { ...common, guidance, times: { gap, s, sPrime, startShare, startS } }) };
    }
    case 'imm':
      return {
        ...drawImmBatch(batch, {
          ...common,
          mapping: immMapping(mappingOptions(stage)),
          particles: groupSize(stage),
        }),
      };
    case 'consistency':
      return { ...drawImmBatch(batch, { ...common, ...consistency(stage) }) };
    case 'meanFlow':
      return { ...drawMeanFlowBatch(batch, { ...common, times: stage.times, equalShare: stage.equalShare }) };
    case 'drifting':
      return { ...drawDriftingBatch(batch, { ...common, particles: groupSize(stage) }) };
    default:
      throw new Error(`train: unknown objective ${(stage satisfies never as Stage).objective}`);
  }
}

/** Of a batch that {@link drawBatch} gave. */
export function lossOf(stage: Stage, batch: StageBatch, { net, teacher }: Situation): Losses {
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
      return { ...immLoss(net, batch, { mapping, particles, kernel, bandwidths, unbiased, timeScale, inputScaling }) };
    }
    case 'consistency': {
      const { timeScale, inputScaling } = stage;
      return { ...immLoss(net, batch, { timeScale, inputScaling, ...consistency(stage) }) };
    }
    case 'meanFlow': {
      const { power, offset, cfg } = stage;
      return { ...meanFlowLoss(net, batch, { power, offset, cfg }) };
    }
    case 'drifting': {
      const { kernel = 'laplace', bandwidths, step } = stage;
      return { ...driftingLoss(net, batch, { particles: groupSize(stage), kernel, bandwidths, step }) };
    }
    default:
      throw new Error(`train: unknown objective ${(stage satisfies never as Stage).objective}`);
  }
}
