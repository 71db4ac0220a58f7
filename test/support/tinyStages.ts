// A network, data and a stage of each objective, for runs of a few steps that take milliseconds.
import { Generator, randn, type Stage, type TrainConfig, tensor } from '../../lib';

export const model: TrainConfig['model'] = {
  imageSize: 4,
  patchSize: 2,
  channels: 1,
  width: 16,
  depth: 1,
  heads: 2,
  classes: 3,
  init: 'xavier',
};

const base = { steps: 6, batch: 4, lr: 1e-3, ema: 0.9 };

/** Each with what else an objective can be told. */
export const tinyStages = {
  flowMatching: { ...base, objective: 'flowMatching', times: { mean: 1, std: 0.5 } },
  tvm: { ...base, objective: 'tvm', cfg: 2, clip: 1 },
  imm: { ...base, objective: 'imm', particles: 2, kernel: 'rbf', bandwidths: [0.5, 1], unbiased: true },
  consistency: {
    ...base,
    objective: 'consistency',
    mapping: { eps: 0.01, k: 8 },
    timeScale: 1,
    inputScaling: false,
    optimizer: 'radam',
  },
  meanFlow: { ...base, objective: 'meanFlow', equalShare: 0.5, power: 0.5, offset: 0.01, cfg: 2 },
  drifting: { ...base, objective: 'drifting', particles: 4, kernel: 'imq', bandwidths: [0.5, 2], step: 0.5 },
} as const satisfies { [Name in Stage['objective']]: Stage & { objective: Name } };

export function tinyConfig(...stages: Stage[]): TrainConfig {
  return { seed: 3, model, stages, checkpointEvery: 2, logEvery: 1 };
}

/** Eight images; what {@link ./trainTiny} trains on. */
export function tinyData() {
  return {
    images: randn([8, 1, 4, 4], { generator: new Generator(100) }),
    labels: tensor(Int32Array.from([0, 1, 2, 0, 1, 2, 0, 1])),
  };
}

/** Aborted once it has been asked `times` times: training asks after each step. */
export function stopAfter(times: number): { readonly aborted: boolean } {
  let asked = 0;
  return {
    get aborted() {
      asked += 1;
      return asked >= times;
    },
  };
}
