// The two trainings of the example: one network, one optimizer, two losses.
import {
  AdamW,
  cosineSchedule,
  Ema,
  functionalCall,
  Generator,
  type ImmMapping,
  immLoss,
  immMapping,
  type Tensor,
  tensor,
  tidy,
  tvmLoss,
  valueAndGrad,
} from 'flowmap';
import { PointFlowMap } from './model';
import { eightGaussians } from './points';

export interface Trained {
  /** With the averaged weights. */
  net: PointFlowMap;
  /** What the loss consists of, and [step, value of each] now and then. */
  terms: string[];
  losses: number[][];
  batch: number;
  seconds: number;
}

export interface TrainOptions {
  steps: number;
  seed: number;
}

interface Objective {
  batch: number;
  terms: string[];
  /** -> the loss, [], and each of its terms, []. */
  loss(net: PointFlowMap, average: Ema, x: Tensor, generator: Generator): [Tensor, Tensor[]];
}

function fit({ batch, terms, loss: lossOf }: Objective, { steps, seed }: TrainOptions): Trained {
  const generator = new Generator(seed);
  const net = new PointFlowMap(128, 3, generator);
  const params = net.namedParameters();
  const optimizer = new AdamW(params, { betas: [0.9, 0.99] });
  const average = new Ema(params, 0.99);
  const lr = cosineSchedule({ lr: 2e-3, steps, warmup: Math.min(20, steps), final: 0.02 });
  const losses: number[][] = [];
  const started = performance.now();
  for (let step = 0; step < steps; step++) {
    tidy(() => {
      const x = tensor(eightGaussians(batch, generator), { shape: [batch, 2] });
      const [[, parts], gradients] = valueAndGrad(
        (stand: Map<string, Tensor>) => functionalCall(net, stand, () => lossOf(net, average, x, generator)),
        { hasAux: true },
      )(params);
      optimizer.update(gradients, { lr: lr(step) });
      average.update();
      // Reading waits for the device, so it is done now and then.
      if (step % 10 === 0) losses.push([step, ...parts.map((part) => part.itemSync())]);
    });
  }
  net.loadStateDict(average.tensors);
  return { net, terms, losses, batch, seconds: (performance.now() - started) / 1000 };
}

/** Terminal Velocity Matching (arXiv 2511.19797), whose teacher is the average of the weights. */
export function trainTerminalVelocity(options: TrainOptions): Trained {
  const loss: Objective['loss'] = (net, average, x, generator) => {
    const result = tvmLoss(net, average.tensors, { x }, { generator, times: { startShare: 0.3 } });
    return [result.loss, [result.terminal.mean(), result.flowMatching.mean()]];
  };
  return fit({ batch: 256, terms: ['terminal term', 'flow matching term'], loss }, options);
}

/** The network takes times as they are and points of unit deviation, so neither is scaled. */
export const momentMatching: { mapping: ImmMapping; timeScale: number; inputScaling: boolean } = {
  mapping: immMapping({ schedule: 'fm', f: 'euler_fm', a: 1, b: 4, k: 12, sigmaData: 1, T: 0.994 }),
  timeScale: 1,
  inputScaling: false,
};

/** Inductive Moment Matching (arXiv 2503.07565): groups of four, the Laplace kernel. */
export function trainMomentMatching(options: TrainOptions): Trained {
  const loss: Objective['loss'] = (net, _, x, generator) => {
    const result = immLoss(net, { x }, { ...momentMatching, particles: 4, kernel: 'laplace', generator });
    return [result.loss, [result.loss]];
  };
  return fit({ batch: 512, terms: ['weighted discrepancy'], loss }, options);
}
