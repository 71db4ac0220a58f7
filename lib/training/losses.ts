// The loss of a stage, as its configuration says.
import type { DiT } from '../nn/dit';
import { driftingLoss } from '../objectives/drifting';
import { immCases, immLoss } from '../objectives/imm';
import { immMapping } from '../objectives/immMapping';
import { meanFlowLoss } from '../objectives/meanFlow';
import { flowMatchingLoss, tvmLoss } from '../objectives/tvm';
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

/** x [B, C, H, W], labels int32 [B] or null */
export function lossOf(stage: Stage, x: Tensor, labels: Tensor | null, { net, teacher, generator }: Situation): Losses {
  const common = { labelDropout: stage.labelDropout ?? 0.1, generator };
  switch (stage.objective) {
    case 'flowMatching':
      return { ...flowMatchingLoss(net, { x, labels }, { ...common, times: stage.times }) };
    case 'tvm': {
      const { cfg, doScaleParam, detachJvp, gap, s, sPrime, startShare, startS } = stage;
      const guidance = cfg !== undefined ? { cfg } : net.options.guidance ? ('beta' as const) : { cfg: 1 };
      const times = { gap, s, sPrime, startShare, startS };
      return { ...tvmLoss(net, teacher!, { x, labels }, { ...common, doScaleParam, detachJvp, guidance, times }) };
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
