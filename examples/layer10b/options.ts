// What the command line asks for, and what stands where it asks nothing: little on a CPU, a layer of full size on a GPU.
import { parseArgs } from 'node:util';
import { cudaFeatures } from 'flowmap';

/** The sizes of one transformer block. */
export interface Model {
  width: number;
  heads: number;
  /** Hidden width of the MLP over the width. */
  mlpRatio: number;
}

export const models = {
  '10b': { width: 4096, heads: 32, mlpRatio: 4 },
  '14b-video': { width: 5120, heads: 40, mlpRatio: 4 },
  small: { width: 512, heads: 8, mlpRatio: 4 },
} as const satisfies Record<string, Model>;

export type ModelName = keyof typeof models;

export const dtypes = ['bfloat16', 'float16', 'float32', 'float64'] as const;
export type FloatType = (typeof dtypes)[number];

export interface Options {
  /** The model's name, marked where its sizes were changed. */
  name: string;
  model: Model;
  device: string;
  dtype: FloatType;
  batch: number;
  /** Rising. */
  tokens: number[];
  /** Measured steps for each number of tokens; one more before them warms up. */
  steps: number;
  checkpoint: boolean;
  /** Rows and columns of the product that says what the device can do. */
  gemm: number;
  /** Bytes that the device may hand out; null: what it has. */
  memoryLimit: number | null;
  seed: number;
  json: string | null;
}

const tokensOf: Record<'cpu' | 'cuda', Record<ModelName, number[]>> = {
  cpu: { small: [64, 256, 1024], '10b': [64, 256], '14b-video': [64, 256] },
  cuda: {
    small: [256, 1024, 4096],
    '10b': [256, 1024, 4096, 16384],
    '14b-video': [256, 1024, 4096, 16384, 32760, 75600],
  },
};

function number(name: string, text: string, accept: (value: number) => boolean, expected: string): number {
  const value = Number(text);
  if (text.trim() === '' || !accept(value)) throw new Error(`--${name} must be ${expected}, got '${text}'`);
  return value;
}

const whole = (name: string, text: string, least: number) =>
  number(name, text, (value) => Number.isSafeInteger(value) && value >= least, `a whole number from ${least}`);

const positive = (name: string, text: string) =>
  number(name, text, (value) => Number.isFinite(value) && value > 0, 'a positive number');

function oneOf<T extends string>(name: string, text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw new Error(`--${name} must be one of ${choices.join(', ')}, got '${text}'`);
  return found;
}

function modelOf(name: ModelName, values: { width?: string; heads?: string; 'mlp-ratio'?: string }): Model {
  const { width, heads, 'mlp-ratio': ratio } = values;
  const model: Model = { ...models[name] };
  if (width !== undefined) model.width = whole('width', width, 1);
  if (heads !== undefined) model.heads = whole('heads', heads, 1);
  if (ratio !== undefined) model.mlpRatio = positive('mlp-ratio', ratio);
  const size = model.width / model.heads;
  if (!Number.isInteger(size) || size > 256) {
    throw new Error(
      `--width must be --heads times a head size of at most 256, got a width of ${model.width} for ${model.heads} heads`,
    );
  }
  return model;
}

/** @throws Error naming the option that is unknown or out of range */
export function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string' },
      device: { type: 'string', default: 'cpu' },
      dtype: { type: 'string', default: 'bfloat16' },
      tokens: { type: 'string' },
      batch: { type: 'string', default: '1' },
      steps: { type: 'string', default: '3' },
      'no-checkpoint': { type: 'boolean', default: false },
      width: { type: 'string' },
      heads: { type: 'string' },
      'mlp-ratio': { type: 'string' },
      gemm: { type: 'string' },
      'memory-limit': { type: 'string' },
      seed: { type: 'string', default: '0' },
      json: { type: 'string' },
    },
  });
  const { device } = values;
  if (!/^(cpu|cuda(:\d+)?)$/.test(device)) {
    throw new Error(`--device must be cpu, cuda or cuda:N, got '${device}'`);
  }
  const kind = device === 'cpu' ? 'cpu' : 'cuda';
  const emulated = kind === 'cuda' && cudaFeatures().emulated;
  const name = oneOf('model', values.model ?? (kind === 'cpu' ? 'small' : '10b'), Object.keys(models) as ModelName[]);
  const model = modelOf(name, values);
  const altered = JSON.stringify(model) !== JSON.stringify(models[name]);
  const tokens = values.tokens?.split(',').map((text) => whole('tokens', text, 1)) ?? tokensOf[kind][name];
  const usual = emulated ? 64 : kind === 'cpu' ? 2048 : 8192;
  const limit = values['memory-limit'];
  return {
    name: altered ? `${name}, altered` : name,
    model,
    device,
    dtype: oneOf('dtype', values.dtype, dtypes),
    batch: whole('batch', values.batch, 1),
    tokens: [...new Set(tokens)].sort((a, b) => a - b),
    steps: whole('steps', values.steps, 1),
    checkpoint: !values['no-checkpoint'],
    gemm: values.gemm === undefined ? usual : whole('gemm', values.gemm, 1),
    memoryLimit: limit === undefined ? null : Math.floor(positive('memory-limit', limit) * 2 ** 30),
    seed: whole('seed', values.seed, 0),
    json: values.json ?? null,
  };
}
