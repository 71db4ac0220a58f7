// The recipes: flow matching first, so that the network knows its velocity; then Terminal Velocity Matching with guidance
// trained in, or Inductive Moment Matching, which is guided when it samples. Digits are decided at high noise, so times
// lean towards 1.
import { type ImmStage, immPresets, type Stage, type TrainConfig, type TvmStage } from 'flowmap';
import { batch, guidance, network } from './network';

export type Objective = 'tvm' | 'imm';

/** Mean and standard deviation of the pixels, in [0, 1]. */
export const pixels = { mean: 0.1311, std: 0.3087 };

const late = { mean: 1.2, std: 1.2 };

/** The second stage starts from what flow matching learned, so times and inputs stay as they were. */
const second: Record<Objective, TvmStage | ImmStage> = {
  tvm: {
    objective: 'tvm',
    steps: 300,
    batch,
    lr: 1.5e-3,
    warmup: 20,
    final: 0.02,
    betas: [0.9, 0.99],
    ema: 0.97,
    teacher: 0.99,
    cfg: guidance,
    sPrime: late,
    startShare: 0.5,
    startS: late,
  },
  imm: {
    objective: 'imm',
    steps: 400,
    batch,
    lr: 1.5e-3,
    warmup: 20,
    final: 0.02,
    betas: [0.9, 0.99],
    ema: 0.97,
    particles: 4,
    kernel: 'laplace',
    mapping: { ...immPresets.digits },
    timeScale: 1,
    inputScaling: false,
  },
};

const matchingSteps: Record<Objective, number> = { tvm: 4000, imm: 2000 };

/** @param share of the steps to make, for a quick look */
export function recipe(seed: number, objective: Objective, share = 1): TrainConfig {
  const part = (stage: Stage): Stage => ({ ...stage, steps: Math.round(share * stage.steps) });
  return {
    seed,
    data: pixels,
    model: network,
    stages: [
      {
        objective: 'flowMatching',
        steps: matchingSteps[objective],
        batch,
        lr: 4e-3,
        warmup: 50,
        final: 0.15,
        betas: [0.9, 0.99],
        ema: 0.995,
        times: late,
      } satisfies Stage,
      second[objective],
    ].map(part),
  };
}
