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
import { sampleFlowMap } from '../samplers/flowMap';
import { type PushforwardOptions, samplePushforward } from '../samplers/imm';
import type { Tensor } from '../tensor';
import { mappingOptions, type TrainConfig, validateConfig } from '../training/config';
import { type ImportedConfig, immSamplingOptions, validateImportedConfig } from '../training/importedConfig';
import { UsageError } from './options';

/** Noise of unit variance [B, C, H, W], labels int32 [B] -> samples */
export type Draw = (noise: Tensor, options: { steps: number; labels: Tensor | null }) => Tensor;

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
  if (last.objective === 'imm' || last.objective === 'consistency') {
    const net = new DiT(model);
    const { timeScale, inputScaling } = last;
    const options = { mapping: immMapping(mappingOptions(last)), timeScale, inputScaling };
    return { net, model, data, guided: (cfg) => immDraw(net, model, options, cfg) };
  }
  const fixed = last.objective === 'tvm' ? last.cfg : undefined; // others take no guidance as an input
  const doScaleParam = last.objective === 'tvm' && (last.doScaleParam ?? false);
  const net = new DiT(model);
  const guided = (cfg: number | undefined): Draw => {
    const draw = tvmDraw(net, { cfg, fixed, doScaleParam });
    if (last.objective !== 'drifting') return draw;
    return (noise, options) => {
      if (options.steps !== 1) {
        throw new UsageError(`--steps must be 1 for a network trained by drifting, got ${options.steps}`);
      }
      return draw(noise, options);
    };
  };
  return { net, model, data, guided };
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
  return { net, model, data, guided: (cfg) => immDraw(net, model, options, cfg) };
}

function immDraw(
  net: ImmNetwork,
  model: { classes: number },
  options: PushforwardOptions,
  cfg: number | undefined,
): Draw {
  if (cfg !== undefined && model.classes === 0) throw new UsageError('--cfg: the network knows no classes');
  const { sigmaData } = options.mapping.options;
  return (noise, { steps, labels }) =>
    samplePushforward(net, noise.mul(sigmaData), { ...options, steps, labels, guidance: cfg ?? 1 }).samples;
}

function tvmDraw(
  net: DiT,
  { cfg, fixed, doScaleParam }: { cfg: number | undefined; fixed: number | undefined; doScaleParam: boolean },
): Draw {
  if (cfg !== undefined && !net.options.guidance) {
    throw new UsageError('--cfg: the network was trained without a guidance embedder, so its guidance is fixed');
  }
  const used = cfg ?? fixed ?? 1;
  return (noise, { steps, labels }) => {
    const beta = used === 1 ? null : full([noise.shape[0]!], 1 / used);
    return sampleFlowMap(net, noise, { steps, labels, beta, doScaleParam });
  };
}
