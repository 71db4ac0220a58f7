// One method from training to samples: what to train, how to draw, what to call it.
import { join } from 'node:path';
import {
  dispose,
  immMapping,
  immPresets,
  loadCheckpoint,
  nn,
  type StepMetrics,
  sampleEuler,
  sampleFlowMap,
  samplePushforward,
  type Tensor,
  type TrainConfig,
} from 'flowmap';
import type { Objective } from './recipe';

export const methodNames: Record<Objective, string> = {
  tvm: 'Terminal Velocity Matching',
  imm: 'Inductive Moment Matching',
};

/** A finished training. */
export interface Trained {
  objective: Objective;
  config: TrainConfig;
  /** Where its files lie. */
  out: string;
  checkpoint: string;
  net: nn.DiT;
  seconds: number[];
  metrics: StepMetrics[];
}

export interface Sampler {
  name: string;
  /** Network evaluations an image. */
  evaluations: number;
  /** Name of the file its samples are kept in, where they are. */
  file?: string;
  /** noise [B, 1, 28, 28] of unit variance, labels int32 [B] -> samples */
  draw: (noise: Tensor, labels: Tensor) => Tensor;
}

/** How samples are drawn with a trained network, the one to look at first coming first. */
export function samplersOf({ objective, net }: Trained): Sampler[] {
  const title = (steps: number) => `${methodNames[objective]}, ${steps} step${steps === 1 ? '' : 's'}`;
  if (objective === 'tvm') {
    return [1, 2, 4].map((steps) => ({
      name: title(steps),
      evaluations: steps,
      ...(steps === 2 ? {} : { file: `samples-${steps}step` }),
      draw: (noise, labels) => sampleFlowMap(net, noise, { steps, labels }),
    }));
  }
  const mapping = immMapping(immPresets.digits);
  const common = { mapping, timeScale: 1, inputScaling: false };
  const guided = (steps: number, guidance: number): Sampler => ({
    name: guidance === 1 ? `${title(steps)}, no guidance` : `${title(steps)}, guidance ${guidance}`,
    evaluations: guidance === 1 ? steps : 2 * steps,
    ...(steps === 2 || guidance === 1 ? {} : { file: `samples-${steps}step` }),
    draw: (noise, labels) => samplePushforward(net, noise, { ...common, steps, labels, guidance }).samples,
  });
  return [guided(1, 2), guided(2, 2), guided(4, 2), guided(1, 1)];
}

/** The flow-matching network that the second stage set out from. */
export async function warmSamplers({ config, out, net: { device } }: Trained): Promise<Sampler[]> {
  const { tensors } = await loadCheckpoint(join(out, 'stage0.safetensors'));
  const net = new nn.DiT(config.model).to({ device });
  net.loadStateDict(tensors.model!);
  dispose(Object.values(tensors));
  const euler = (steps: number, cfg: number) => (noise: Tensor, labels: Tensor) =>
    sampleEuler(net, noise, { steps, labels, cfg }).samples;
  return [
    { name: 'Flow matching, 1 step', evaluations: 1, draw: euler(1, 1) },
    { name: 'Flow matching, 50 steps, guidance 2', evaluations: 100, draw: euler(50, 2) },
  ];
}
