// A training run as data: checked key by key before anything is built.
import { ArgumentError } from '../errors';
import { nearestName } from '../nearestName';
import type { DiTOptions } from '../nn/dit';
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
  /** Of a group; they share a class and must divide the batch. Default 4. */
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
  kernel?: 'laplace' | 'rbf' | 'imq';
  bandwidths?: number[];
  /** How far along the drift the network's targets lie. Default 1. */
  step?: number;
}

export type Stage = FlowMatchingStage | TvmStage | ImmStage | ConsistencyStage | MeanFlowStage | DriftingStage;

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
  | 'numbers'
  | 'mapping'
  | 'any'
  | 'number'
  | 'boolean'
  | 'string'
  | 'law'
  | 'pair'
  | 'objective'
  | 'init'
  | 'optimizer';

const base: Record<string, Kind> = {
  objective: 'objective',
  steps: 'number',
  batch: 'number',
  lr: 'number',
  warmup: 'number',
  final: 'number',
  optimizer: 'optimizer',
  betas: 'pair',
  weightDecay: 'number',
  ema: 'number',
  clip: 'number',
  labelDropout: 'number',
};
const evaluation: Record<string, Kind> = { mapping: 'mapping', timeScale: 'number', inputScaling: 'boolean' };
export const stageKeys: Record<Stage['objective'], Record<string, Kind>> = {
  flowMatching: { ...base, times: 'law' },
  tvm: {
    ...base,
    teacher: 'number',
    cfg: 'number',
    doScaleParam: 'boolean',
    detachJvp: 'boolean',
    gap: 'law',
    s: 'law',
    sPrime: 'law',
    startShare: 'number',
    startS: 'law',
  },
  imm: {
    ...base,
    ...evaluation,
    particles: 'number',
    kernel: 'string',
    bandwidths: 'numbers',
    unbiased: 'boolean',
  },
  consistency: { ...base, ...evaluation },
  meanFlow: { ...base, times: 'law', equalShare: 'number', power: 'number', offset: 'number', cfg: 'number' },
  drifting: { ...base, particles: 'number', kernel: 'string', bandwidths: 'numbers', step: 'number' },
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

function fail(path: string, expected: string, got: unknown, op = 'train'): never {
  throw new ArgumentError(op, `config.${path} must be ${expected}, got ${JSON.stringify(got)}`);
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
  const isNumber = (x: unknown) => typeof x === 'number' && Number.isFinite(x);
  switch (kind) {
    case 'any':
      return;
    case 'number':
      if (!isNumber(value)) refuse('a finite number');
      return;
    case 'boolean':
    case 'string':
      if (typeof value !== kind) refuse(`a ${kind}`);
      return;
    case 'pair':
      if (!Array.isArray(value) || value.length !== 2 || !value.every(isNumber)) refuse('two numbers');
      return;
    case 'numbers':
      if (!Array.isArray(value) || value.length === 0 || !value.every(isNumber)) refuse('a list of numbers');
      return;
    case 'mapping':
      try {
        immMapping({ sigmaData: 1, ...record(path, value, op) });
      } catch (error) {
        if (!(error instanceof ArgumentError)) throw error;
        throw new ArgumentError(op, `config.${path}: ${error.message}`);
      }
      return;
    case 'law': {
      const law = record(path, value, op);
      checkKeys(path, law, ['mean', 'std'], op);
      if (!isNumber(law.mean) || !isNumber(law.std)) refuse('{ mean, std }');
      return;
    }
    case 'objective':
      if (typeof value !== 'string' || !(value in stageKeys)) refuse(`one of ${Object.keys(stageKeys).join(', ')}`);
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
    if (stage.particles !== undefined) {
      checkWhole(`${path}.particles`, stage.particles, 1);
      const [batch, particles] = [stage.batch as number, stage.particles as number];
      if (batch % particles !== 0) fail(`${path}.particles`, `a divisor of the batch of ${batch}`, particles);
    }
    if (!(typeof stage.lr === 'number' && stage.lr > 0)) fail(`${path}.lr`, 'a positive number', stage.lr);
    for (const key of ['ema', 'teacher', 'labelDropout', 'startShare', 'equalShare', 'final']) {
      const share = stage[key];
      if (share !== undefined && !((share as number) >= 0 && (share as number) <= 1))
        fail(`${path}.${key}`, 'in [0, 1]', share);
    }
  }
  return config as unknown as TrainConfig;
}
