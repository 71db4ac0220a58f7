// The recipe: flow matching first, so that the network knows its velocity, then Terminal Velocity Matching with
// guidance 2 trained in. Digits are decided at high noise, so times lean towards 1.
import type { TrainConfig } from 'flowmap';

/** Mean and standard deviation of the pixels, in [0, 1]. */
export const pixels = { mean: 0.1311, std: 0.3087 };

const late = { mean: 1.2, std: 1.2 };

export function recipe(seed: number, { matchingSteps = 4000, terminalSteps = 300 } = {}): TrainConfig {
  return {
    seed,
    data: pixels,
    model: {
      imageSize: 28,
      patchSize: 7,
      channels: 1,
      width: 96,
      depth: 4,
      heads: 4,
      classes: 10,
      init: 'xavier',
      labelStd: 1,
      timeStd: 0.1,
      timeFrequencies: 64,
      timeRange: [10, 0.1],
    },
    stages: [
      {
        objective: 'flowMatching',
        steps: matchingSteps,
        batch: 32,
        lr: 4e-3,
        warmup: 50,
        final: 0.15,
        betas: [0.9, 0.99],
        ema: 0.995,
        times: late,
      },
      {
        objective: 'tvm',
        steps: terminalSteps,
        batch: 32,
        lr: 1.5e-3,
        warmup: 20,
        final: 0.02,
        betas: [0.9, 0.99],
        ema: 0.97,
        teacher: 0.99,
        cfg: 2,
        sPrime: late,
        startShare: 0.5,
        startS: late,
      },
    ],
  };
}
