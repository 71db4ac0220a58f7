// A training run as data: checked key by key before anything is built.
import { ArgumentError } from '../errors';
import { nearestName } from '../nearestName';
import type { DiTOptions } from '../nn/dit';
import type { DriftingKernel } from '../objectives/drifting';
import { type ImmMappingOptions, immMapping } from '../objectives/immMapping';
import type { LogitNormal } from '../objectives/times';
import type { MmdKernel } from '../ops/mmd';

interface StageBase {
  /** Optimiser steps. */
  steps: number;
  /** Samples a step. */
  batch: number;
  /** Highest learning rate; it falls along half a cosine to `final` of it. */
  lr: number;
  /** Steps of linear warm-up. Default 0. */
  warmup?: number;
  /** Last learning rate over the highest. Default 0. */
  final?: number;
  /** Default 'adamw'. */
  optimizer?: 'adamw' | 'radam';
  /** Of the optimiser. Default [0.9, 0.95]. */
  betas?: [number, number];
  /** Of the optimiser, decoupled. Default 0. */
  weightDecay?: number;
  /** Decay of the average that samples are drawn with; it starts anew with each stage. Default 0.9999. */
  ema?: number;
  /** Largest norm of all gradients together; 0 for no limit. Default 0. */
  clip?: number;
  /** Probability of dropping a class. Default 0.1. */
  labelDropout?: number;
}

export interface FlowMatchingStage extends StageBase {
  objective: 'flowMatching';
  /** Law of t. Default mean 0, std 1. */
  times?: LogitNormal;
}

export interface TvmStage extends StageBase {
  objective: 'tvm';
  /** Decay of the teacher's average. Default 0.99. */
  teacher?: number;
  /** cfg that is trained in. Default: beta uniform, for a network with a guidance embedder; else 1. */
  cfg?: number;
  doScaleParam?: boolean;
  detachJvp?: boolean;
  gap?: LogitNormal;
  s?: LogitNormal;
  sPrime?: LogitNormal;
  /** Share of the batch that starts at t = 1, with s from `startS`. Default 0. */
  startShare?: number;
  startS?: LogitNormal;
}

/** What the network is asked as, in training and in sampling. */
interface ImmEvaluation {
  /** Default {}: flow matching's schedule and map, with the published weights. sigmaData is that of the data: 1 here. */
  mapping?: ImmMappingOptions;
  /** What times are multiplied by before they are embedded. Default 1000; 1 keeps what flow matching learned. */
  timeScale?: number;
  /** Scale inputs by c_in. Default true; false keeps what flow matching learned. */
  inputScaling?: boolean;
}

export interface ImmStage extends StageBase, ImmEvaluation {
  objective: 'imm';
  /** Of a group, 1 to 64; they share a class and must divide the batch. Default 4. */
  particles?: number;
  /** Default 'laplace'. */
  kernel?: MmdKernel | 'l2';
  bandwidths?: number[];
  unbiased?: boolean;
}

export interface ConsistencyStage extends StageBase, ImmEvaluation {
  objective: 'consistency';
}

export interface MeanFlowStage extends StageBase {
  objective: 'meanFlow';
  /** Law of both times. Default mean −0.4, std 1. */
  times?: LogitNormal;
  /** Share of the batch with s = t. Default 0.75. */
  equalShare?: number;
  /** Of the adaptive weight. Default 1. */
  power?: number;
  /** Of the adaptive weight. Default 1e-3. */
  offset?: number;
  /** Guidance that is trained in. Default 1. */
  cfg?: number;
}

export interface DriftingStage extends StageBase {
  objective: 'drifting';
  /** Of a group; they share a class and must divide the batch. Default 16. */
  particles?: number;
  /** Default 'laplace'. */
  kernel?: DriftingKernel;
  bandwidths?: number[];
  /** How far along the drift the network's targets lie. Default 1. */
  step?: number;
}

export type Stage = FlowMatchingStage | TvmStage | ImmStage | ConsistencyStage | MeanFlowStage | DriftingStage;

/** Particles that the loss takes as one group, and that share a class. */
export function groupSize(stage: Stage): number {
  if (stage.objective === 'imm') return stage.particles ?? 4;
  return stage.objective === 'drifting' ? (stage.particles ?? 16) : 1;
}

/** The options of {@link immMapping} for a stage: its data have unit standard deviation. */
export function mappingOptions({ mapping }: ImmEvaluation): ImmMappingOptions {
  return { sigmaData: 1, ...mapping };
}

export interface TrainConfig {
  seed: number;
  model: Omit<DiTOptions, 'generator'>;
  /** One after the other; each starts from the average of the one before, with a fresh optimiser and averages. */
  stages: Stage[];
  /** Where the data came from and how it was normalised: kept for whoever samples. */
  data?: { path?: string; mean?: number; std?: number };
  /** Steps between checkpoints. Default 1000. */
  checkpointEvery?: number;
  /** Steps between lines of metrics. Default 20. */
  logEvery?: number;
}

export type Kind =
  | 'any'
  | 'number'
  | 'positive'
  | 'positives'
  | 'notNegative'
  | 'share'
  | 'boolean'
  | 'string'
  | 'law'
  | 'mapping'
  | 'pair'
  | 'immKernel'
  | 'driftingKernel'
  | 'objective'
  | 'init'
  | 'optimizer';

const base: Record<string, Kind> = {
  objective: 'objective',
  steps: 'number',
  batch: 'number',
  lr: 'positive',
  warmup: 'notNegative',
  final: 'share',
  optimizer: 'optimizer',
  betas: 'pair',
  weightDecay: 'notNegative',
  ema: 'share',
  clip: 'notNegative',
  labelDropout: 'share',
};
const evaluation: Record<string, Kind> = { mapping: 'mapping', timeScale: 'positive', inputScaling: 'boolean' };
export const stageKeys: Record<Stage['objective'], Record<string, Kind>> = {
  flowMatching: { ...base, times: 'law' },
  tvm: {
    ...base,
    teacher: 'share',
    cfg: 'positive',
    doScaleParam: 'boolean',
    detachJvp: 'boolean',
    gap: 'law',
    s: 'law',
    sPrime: 'law',
    startShare: 'share',
    startS: 'law',
  },
  imm: {
    ...base,
    ...evaluation,
    particles: 'number',
    kernel: 'immKernel',
    bandwidths: 'positives',
    unbiased: 'boolean',
  },
  consistency: { ...base, ...evaluation },
  meanFlow: { ...base, times: 'law', equalShare: 'share', power: 'notNegative', offset: 'positive', cfg: 'positive' },
  drifting: { ...base, particles: 'number', kernel: 'driftingKernel', bandwidths: 'positives', step: 'positive' },
};
export const modelKeys: Record<string, Kind> = {
  imageSize: 'number',
  patchSize: 'number',
  channels: 'number',
  width: 'number',
  depth: 'number',
  heads: 'number',
  classes: 'number',
  guidance: 'boolean',
  modNorm: 'boolean',
  qkNorm: 'boolean',
  mlpRatio: 'number',
  init: 'init',
  labelStd: 'number',
  timeStd: 'number',
  timeFrequencies: 'number',
  timeRange: 'pair',
  checkpoint: 'boolean',
};
export const dataKeys: Record<string, Kind> = { path: 'string', mean: 'number', std: 'number' };
const topKeys = ['seed', 'model', 'stages', 'data', 'checkpointEvery', 'logEvery'];

const kernels = {
  immKernel: ['laplace', 'rbf', 'imq', 'energy', 'l2'] satisfies ImmStage['kernel'][],
  driftingKernel: ['laplace', 'rbf', 'imq'] satisfies DriftingStage['kernel'][],
};

/** As JSON, which for its part makes null of NaN and infinities. */
function shown(value: unknown): string {
  return JSON.stringify(value, (_, x) => (typeof x === 'number' && !Number.isFinite(x) ? `#${x}` : x))?.replace(
    /"#(NaN|-?Infinity)"/g,
    '$1',
  );
}

function fail(path: string, expected: string, got: unknown, op = 'train'): never {
  throw new ArgumentError(op, `config${path === '' ? '' : `.${path}`} must be ${expected}, got ${shown(got)}`);
}

export function record(path: string, value: unknown, op = 'train'): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(path, 'an object', value, op);
  return value as Record<string, unknown>;
}

function checkKeys(path: string, value: Record<string, unknown>, allowed: readonly string[], op = 'train'): void {
  for (const key of Object.keys(value)) {
    if (allowed.includes(key)) continue;
    const at = path === '' ? key : `${path}.${key}`;
    throw new ArgumentError(op, `config.${at} is unknown; did you mean '${nearestName(key, allowed)}'?`);
  }
}

function checkKind(path: string, kind: Kind, value: unknown, op = 'train'): void {
  const refuse = (expected: string) => fail(path, expected, value, op);
  const isNumber = (x: unknown): x is number => typeof x === 'number' && Number.isFinite(x);
  const isPositive = (x: unknown) => isNumber(x) && x > 0;
  const oneOf = (names: readonly string[]) => {
    if (names.includes(value as string)) return;
    const advice = typeof value === 'string' ? `; did you mean '${nearestName(value, names)}'?` : '';
    throw new ArgumentError(op, `config.${path} must be one of ${names.join(', ')}, got ${shown(value)}${advice}`);
  };
  switch (kind) {
    case 'any':
      return;
    case 'number':
      if (!isNumber(value)) refuse('a finite number');
      return;
    case 'positive':
      if (!isPositive(value)) refuse('a positive number');
      return;
    case 'positives':
      if (!Array.isArray(value) || value.length === 0 || !value.every(isPositive)) refuse('a list of positive numbers');
      return;
    case 'notNegative':
      if (!isNumber(value) || value < 0) refuse('a finite number of at least 0');
      return;
    case 'share':
      if (!isNumber(value) || value < 0 || value > 1) refuse('in [0, 1]');
      return;
    case 'boolean':
    case 'string':
      if (typeof value !== kind) refuse(`a ${kind}`);
      return;
    case 'pair':
      if (!Array.isArray(value) || value.length !== 2 || !value.every(isNumber)) refuse('two numbers');
      return;
    case 'mapping': {
      const mapping = record(path, value, op);
      try {
        immMapping({ sigmaData: 1, ...mapping });
      } catch (error) {
        if (!(error instanceof ArgumentError)) throw error;
        throw new ArgumentError(op, `config.${path}: ${error.message}`);
      }
      return;
    }
    case 'law': {
      const law = record(path, value, op);
      checkKeys(path, law, ['mean', 'std'], op);
      if (!isNumber(law.mean) || !isNumber(law.std) || law.std < 0) {
        refuse('{ mean, std }, finite numbers, with std of at least 0');
      }
      return;
    }
    case 'immKernel':
    case 'driftingKernel':
      oneOf(kernels[kind]);
      return;
    case 'objective':
      oneOf(Object.keys(stageKeys));
      return;
    case 'init':
      if (value !== 'spectral' && value !== 'xavier') refuse("'spectral' or 'xavier'");
      return;
    case 'optimizer':
      if (value !== 'adamw' && value !== 'radam') refuse("'adamw' or 'radam'");
      return;
    default:
      kind satisfies never;
  }
}

export function checkTable(
  path: string,
  value: Record<string, unknown>,
  table: Record<string, Kind>,
  op = 'train',
): void {
  checkKeys(path, value, Object.keys(table), op);
  for (const [key, kind] of Object.entries(table)) {
    if (value[key] !== undefined) checkKind(path === '' ? key : `${path}.${key}`, kind, value[key], op);
  }
}

export function checkWhole(path: string, value: unknown, least: number, op = 'train'): void {
  if (!Number.isSafeInteger(value) || (value as number) < least) {
    fail(path, `an integer of at least ${least}`, value, op);
  }
}

/** What depends on more than one key. */
function checkTogether(path: string, stage: Stage, model: Record<string, unknown>): void {
  if (stage.objective === 'imm' || stage.objective === 'drifting') {
    const at = `${path}.particles`;
    if (stage.particles !== undefined) checkWhole(at, stage.particles, 1);
    const particles = groupSize(stage);
    if (stage.objective === 'imm' && particles > 64) fail(at, 'at most 64', particles);
    if (stage.batch % particles !== 0) {
      const asIs = stage.particles === undefined ? ', the default' : '';
      throw new ArgumentError(
        'train',
        `config.${at} must be a divisor of the batch of ${stage.batch}, got ${particles}${asIs}`,
      );
    }
  }
  if (stage.objective === 'imm') {
    const { kernel = 'laplace', bandwidths, unbiased } = stage;
    if ((kernel === 'l2' || kernel === 'energy') && bandwidths !== undefined) {
      fail(`${path}.bandwidths`, `left out with the kernel '${kernel}'`, bandwidths);
    }
    if (kernel === 'l2' && unbiased) fail(`${path}.unbiased`, "left out with the kernel 'l2'", unbiased);
    if (unbiased && groupSize(stage) === 1) fail(`${path}.unbiased`, 'left out with a single particle', unbiased);
  }
  if ((stage.objective === 'tvm' || stage.objective === 'meanFlow') && model.classes === 0) {
    if ((stage.cfg ?? 1) !== 1) fail(`${path}.cfg`, '1 for a network without classes', stage.cfg);
  }
}

/**
 * Checks a configuration and gives it back, typed.
 *
 * @throws ArgumentError naming the key, and the nearest known one where it is unknown
 */
export function validateConfig(value: unknown): TrainConfig {
  const config = record('', value);
  checkKeys('', config, topKeys);
  checkWhole('seed', config.seed, 0);
  const model = record('model', config.model);
  checkTable('model', model, modelKeys);
  for (const key of ['imageSize', 'patchSize', 'channels', 'width', 'depth', 'heads']) {
    checkWhole(`model.${key}`, model[key], 1);
  }
  checkWhole('model.classes', model.classes, 0);
  if (config.data !== undefined) checkTable('data', record('data', config.data), dataKeys);
  for (const key of ['checkpointEvery', 'logEvery']) {
    if (config[key] !== undefined) checkWhole(key, config[key], 1);
  }
  if (!Array.isArray(config.stages) || config.stages.length === 0) fail('stages', 'a list of stages', config.stages);
  for (const [i, each] of (config.stages as unknown[]).entries()) {
    const path = `stages.${i}`;
    const stage = record(path, each);
    checkKind(`${path}.objective`, 'objective', stage.objective);
    checkTable(path, stage, stageKeys[stage.objective as Stage['objective']]);
    checkWhole(`${path}.steps`, stage.steps, 1);
    checkWhole(`${path}.batch`, stage.batch, 1);
    checkKind(`${path}.lr`, 'positive', stage.lr);
    checkTogether(path, stage as unknown as Stage, model);
  }
  return config as unknown as TrainConfig;
}
