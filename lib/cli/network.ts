// A checkpoint's network and how it wants to be asked for samples: of a training run, or with imported weights.
import { full } from '../create';
import { FormatError } from '../errors';
import { loadCheckpoint } from '../io/checkpoint';
import { dispose } from '../memory';
import { DiT } from '../nn/dit';
import { ImmDiT } from '../nn/immDit';
import type { Module } from '../nn/module';
import { immMapping } from '../objectives/immMapping';
import type { ImmNetwork } from '../objectives/immNetwork';
import type { Generator } from '../random';
import { sampleEuler, sampleFlowMap } from '../samplers/flowMap';
import { type PushforwardOptions, samplePushforward, sampleRestart } from '../samplers/imm';
import type { Tensor } from '../tensor';
import { mappingOptions, type Stage, type TrainConfig, validateConfig } from '../training/config';
import { type ImportedConfig, immSamplingOptions, validateImportedConfig } from '../training/importedConfig';
import { UsageError } from './options';

export interface DrawOptions {
  steps: number;
  labels: Tensor | null;
  /** Of noise that steps after the first need. */
  generator: Generator;
}

/** Noise of unit variance [B, C, H, W], labels int32 [B] -> samples */
export type Draw = (noise: Tensor, options: DrawOptions) => Tensor;

export interface LoadedNetwork {
  /** The caller disposes it. */
  net: Module;
  model: { imageSize: number; channels: number; classes: number };
  data: { mean?: number; std?: number };
  /** How to draw with guidance `cfg`, as trained where undefined. @throws UsageError if the network takes none */
  guided(cfg: number | undefined): Draw;
}

/** The network of a checkpoint that `flowmap train` or `flowmap import` wrote, with the weights to sample with. */
export async function loadNetwork(path: string): Promise<LoadedNetwork> {
  const { tensors, state } = await loadCheckpoint(path);
  try {
    const { ema, model } = tensors;
    const { config, imported } = (typeof state === 'object' ? state : {}) as { config?: unknown; imported?: unknown };
    if (!ema || !model || (config === undefined && imported === undefined)) {
      throw new FormatError(
        'sample',
        `${path} is a checkpoint, but not of a network: it must have a config, and groups ema and model`,
      );
    }
    const loaded = imported === undefined ? trained(validateConfig(config)) : ofElsewhere(imported);
    try {
      // The averages are of the parameters alone: buffers come with the model.
      loaded.net.loadStateDict(new Map([...model, ...ema]));
    } catch (error) {
      loaded.net.dispose();
      throw error;
    }
    return loaded;
  } finally {
    dispose(Object.values(tensors));
  }
}

/** How the last stage was trained decides how its network is asked. */
function trained({ stages, model, data = {} }: TrainConfig): LoadedNetwork {
  const last = stages.at(-1)!;
  const net = new DiT(model);
  return { net, model, data, guided: (cfg) => trainedDraw(net, model, last, cfg) };
}

function trainedDraw(net: DiT, model: { classes: number }, last: Stage, cfg: number | undefined): Draw {
  switch (last.objective) {
    case 'flowMatching':
      return eulerDraw(net, model, cfg);
    case 'tvm':
      return tvmDraw(net, { cfg, fixed: last.cfg, doScaleParam: last.doScaleParam ?? false });
    case 'imm':
    case 'consistency': {
      const { timeScale, inputScaling } = last;
      const options = { mapping: immMapping(mappingOptions(last)), timeScale, inputScaling };
      return immDraw(net, model, options, cfg, last.objective === 'consistency' ? 'restart' : 'pushforward');
    }
    case 'meanFlow':
    case 'drifting':
      if (cfg !== undefined) {
        throw new UsageError(`--cfg: the guidance of a network trained by ${last.objective} is fixed by its training`);
      }
      return (noise, { steps, labels }) => {
        if (last.objective === 'drifting' && steps !== 1) {
          throw new UsageError(`--steps must be 1 for a network trained by drifting, got ${steps}`);
        }
        return sampleFlowMap(net, noise, { steps, labels });
      };
    default:
      throw new Error(`sample: unknown objective ${(last satisfies never as Stage).objective}`);
  }
}

function ofElsewhere(given: unknown): LoadedNetwork {
  const config: ImportedConfig = validateImportedConfig(given);
  const { model, data = {} } = config;
  if (config.network === 'tvm') {
    const net = new DiT(config.model);
    const { cfg: fixed, doScaleParam = false } = config.sampling;
    return { net, model, data, guided: (cfg) => tvmDraw(net, { cfg, fixed, doScaleParam }) };
  }
  const net = new ImmDiT(model);
  const options = immSamplingOptions(config.sampling);
  return { net, model, data, guided: (cfg) => immDraw(net, model, options, cfg, 'pushforward') };
}

function needClasses(model: { classes: number }, cfg: number | undefined): void {
  if (cfg !== undefined && model.classes === 0) throw new UsageError('--cfg: the network knows no classes');
}

/** Flow matching teaches a velocity alone, and no jumps: the way is integrated. */
function eulerDraw(net: DiT, model: { classes: number }, cfg: number | undefined): Draw {
  needClasses(model, cfg);
  return (noise, { steps, labels }) => sampleEuler(net, noise, { steps, labels, cfg }).samples;
}

/** @param way 'restart' for a network that has learned jumps to the end alone */
function immDraw(
  net: ImmNetwork,
  model: { classes: number },
  options: PushforwardOptions,
  cfg: number | undefined,
  way: 'pushforward' | 'restart',
): Draw {
  needClasses(model, cfg);
  const { sigmaData } = options.mapping.options;
  return (noise, { steps, labels, generator }) => {
    const all = { ...options, steps, labels, guidance: cfg ?? 1 };
    const latents = noise.mul(sigmaData);
    if (way === 'restart') return sampleRestart(net, latents, { ...all, generator }).samples;
    return samplePushforward(net, latents, all).samples;
  };
}

function tvmDraw(
  net: DiT,
  { cfg, fixed, doScaleParam }: { cfg: number | undefined; fixed: number | undefined; doScaleParam: boolean },
): Draw {
  if (cfg !== undefined && !net.options.guidance) {
    throw new UsageError('--cfg: the network was trained without a guidance embedder, so its guidance is fixed');
  }
  needClasses(net.options, cfg);
  const used = cfg ?? fixed ?? 1;
  return (noise, { steps, labels }) => {
    const beta = used === 1 ? null : full([noise.shape[0]!], 1 / used, { device: noise.device });
    return sampleFlowMap(net, noise, { steps, labels, beta, doScaleParam });
  };
}
