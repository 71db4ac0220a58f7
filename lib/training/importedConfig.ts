// What is known of a network whose weights came from elsewhere: its size, and how it wants to be asked for samples.
import { ArgumentError } from '../errors';
import { nearestName } from '../nearestName';
import { type DiTOptions, ditPresets, ditShapes } from '../nn/dit';
import { type ImmDiTOptions, immDitPresets, immDitShapes } from '../nn/immDit';
import { type ImmMappingOptions, immMapping, immPresets } from '../objectives/immMapping';
import { checkImmOptions, type ImmEvaluateOptions } from '../objectives/immNetwork';
import { checkTable, checkWhole, dataKeys, type Kind, modelKeys, record } from './config';

/** How a network of Terminal Velocity Matching was trained. */
export interface TvmSampling {
  /** The guidance it was trained with; absent where any was. */
  cfg?: number;
  /** F is divided by beta = 1 / cfg. Must be said of a network with a guidance embedder. */
  doScaleParam?: boolean;
}

/** How a network of Inductive Moment Matching was trained. */
export type ImmSampling = Pick<ImmMappingOptions, 'schedule' | 'f' | 'sigmaData' | 'eps' | 'T'> &
  Pick<ImmEvaluateOptions, 'temb' | 'timeScale'>;

interface ImportedBase {
  /** How samples become pixels: x · std + mean. */
  data?: { mean?: number; std?: number };
}

export interface ImportedTvm extends ImportedBase {
  network: 'tvm';
  model: Omit<DiTOptions, 'generator'>;
  sampling: TvmSampling;
}

export interface ImportedImm extends ImportedBase {
  network: 'imm';
  model: Omit<ImmDiTOptions, 'generator'>;
  sampling: ImmSampling;
}

export type ImportedConfig = ImportedTvm | ImportedImm;
const op = 'import';

const samplingKeys: Record<ImportedConfig['network'], Record<string, Kind>> = {
  tvm: { cfg: 'number', doScaleParam: 'boolean' },
  imm: {
    schedule: 'string',
    f: 'string',
    sigmaData: 'number',
    eps: 'number',
    T: 'number',
    temb: 'string',
    timeScale: 'number',
  },
};
const notOfImm = ['guidance', 'modNorm', 'qkNorm'];

/** The published networks' settings at a size: ImageNet's latents of 32 × 32, 1000 classes. */
export function presetConfig(network: ImportedConfig['network'], preset: string): Record<string, unknown> {
  const presets: Record<string, object> = network === 'tvm' ? ditPresets : immDitPresets;
  if (!Object.hasOwn(presets, preset)) {
    const known = Object.keys(presets);
    throw new ArgumentError(
      op,
      `preset must be one of ${known.join(', ')}, got '${preset}'; did you mean '${nearestName(preset, known)}'?`,
    );
  }
  // Of the mapping, what sampling needs; the rest is training's.
  const { schedule, f, sigmaData, eps, T } = immPresets.imagenet;
  const published = { schedule, f, sigmaData, eps, T };
  const model = { imageSize: 32, channels: 4, classes: 1000, ...presets[preset] };
  return network === 'tvm'
    ? { network, model: { ...model, guidance: true, modNorm: true, qkNorm: true }, sampling: {} }
    : { network, model, sampling: { ...published, temb: 'stride', timeScale: 1000 } };
}

/**
 * Checks a configuration and gives it back, typed.
 *
 * @throws ArgumentError naming the key, and the nearest known one where it is unknown
 */
export function validateImportedConfig(value: unknown): ImportedConfig {
  const config = record('', value, op);
  checkTable('', config, { network: 'string', model: 'any', sampling: 'any', data: 'any' }, op);
  const { network } = config;
  if (network !== 'tvm' && network !== 'imm') {
    throw new ArgumentError(op, `config.network must be 'tvm' or 'imm', got ${JSON.stringify(network)}`);
  }
  const model = record('model', config.model, op);
  const keys = Object.entries(modelKeys).filter(([key]) => network === 'tvm' || !notOfImm.includes(key));
  checkTable('model', model, Object.fromEntries(keys), op);
  for (const key of ['imageSize', 'patchSize', 'channels', 'width', 'depth', 'heads']) {
    checkWhole(`model.${key}`, model[key], 1, op);
  }
  checkWhole('model.classes', model.classes, 0, op);
  if (config.data !== undefined) checkTable('data', record('data', config.data, op), dataKeys, op);
  const sampling = record('sampling', config.sampling, op);
  checkTable('sampling', sampling, samplingKeys[network], op);
  if (network === 'tvm') {
    if (sampling.cfg !== undefined && !((sampling.cfg as number) > 0)) {
      throw new ArgumentError(op, `config.sampling.cfg must be a positive number, got ${sampling.cfg}`);
    }
    if (model.guidance === true && sampling.doScaleParam === undefined) {
      throw new ArgumentError(
        op,
        'config.sampling.doScaleParam must be true or false for a network with a guidance embedder, got none',
      );
    }
  }
  const typed = config as unknown as ImportedConfig;
  if (typed.network === 'imm') immSamplingOptions(typed.sampling);
  return typed;
}

/** What the samplers take, checked. */
export function immSamplingOptions(sampling: ImmSampling): ImmEvaluateOptions {
  const { temb, timeScale, ...rest } = sampling;
  const options = { mapping: immMapping(rest), temb, timeScale };
  checkImmOptions(op, { secondTime: 'raw' }, options);
  return options;
}

/** Shapes of the network's tensors, by state-dict key. */
export function importedShapes(config: ImportedConfig): Map<string, readonly number[]> {
  return config.network === 'tvm' ? ditShapes(config.model) : immDitShapes(config.model);
}
