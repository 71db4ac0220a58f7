// The sweep over numbers of tokens: the ceiling, the check, then a row of figures for each, until memory runs out.
import { dispose, emptyCache, Generator, memory, OutOfMemoryError, setMemoryLimit, tidy } from 'flowmap';
import { type Check, compare, computed, expected, type Slices } from './check';
import { Layer, makeInputs } from './layer';
import {
  bytesInUse,
  type GemmRate,
  measureGemm,
  measureStep,
  type Seconds,
  type StepFigures,
  settle,
  total,
} from './measure';
import { countOperations, type Operations } from './operations';
import type { Options } from './options';

/** The check needs the keys and values of all tokens in float64, which takes long for many. */
const checkedTokens = 256;

/** Bytes, by what holds them when most is in use. */
export interface Memory {
  weights: number;
  /** Masters and both moments. */
  optimizer: number;
  inputs: number;
  /** Between forward and backward: results, and what the gradients will need. */
  kept: number;
  /** Above all these at the peak: gradients, what is computed again, temporaries. */
  workspace: number;
  peak: number;
}

export interface Row {
  tokens: number;
  /** Of the step whose time is the median. */
  seconds: Seconds;
  operations: Operations;
  memory: Memory;
}

export interface Outcome {
  gemm: GemmRate;
  parameters: number;
  /** Absent where memory did not suffice for it. */
  check: Check | null;
  rows: Row[];
  /** Where and why the sweep ended early. */
  outOfMemory: { at: string; message: string } | null;
}

type Spoil = (got: Slices) => void;

/** Called as things go on; `spoil` lets a test see the check fail. */
export interface Hooks {
  say?: (text: string) => void;
  spoil?: Spoil;
}

export function sweep(options: Options, { say = () => {}, spoil = () => {} }: Hooks = {}): Outcome {
  const { model, device, dtype, tokens, seed, memoryLimit } = options;
  const place = { dtype, device };
  say(`measuring a ${dtype} product of ${options.gemm}³`);
  const outcome: Outcome = {
    gemm: measureGemm(options.gemm, place),
    parameters: 0,
    check: null,
    rows: [],
    outOfMemory: null,
  };
  const generator = new Generator(seed);
  const { limitBytes } = memory(device);
  let [at, layer] = ['the layer', null as Layer | null];
  emptyCache(device);
  try {
    if (memoryLimit !== null) setMemoryLimit(memoryLimit, device);
    const before = bytesInUse(device);
    say('making the layer');
    layer = new Layer(model, place, generator, () => bytesInUse(device));
    settle([...layer.block.parameters(), ...layer.optimizer.stateDict().tensors.values()]);
    outcome.parameters = layer.block.parameterCount;

    const few = Math.min(tokens[0]!, checkedTokens);
    at = `the check of ${few} tokens`;
    say('checking a slice against float64');
    outcome.check = checked(layer, few, options, generator, spoil);
    for (const count of tokens) {
      at = `${count} tokens`;
      say(at);
      outcome.rows.push(measured(layer, count, before, options, generator));
    }
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    outcome.outOfMemory = { at, message: error.message };
  } finally {
    layer?.dispose();
    emptyCache(device);
    if (memoryLimit !== null) setMemoryLimit(limitBytes, device);
  }
  return outcome;
}

function checked(layer: Layer, tokens: number, options: Options, generator: Generator, spoil: Spoil): Check {
  const { model, device, dtype, batch, checkpoint } = options;
  const inputs = makeInputs(model, batch, tokens, { dtype, device }, generator);
  try {
    return tidy(() => {
      const got = computed(layer.block, inputs, { checkpoint });
      spoil(got);
      return compare(got, expected(layer.block, inputs, model), tokens, dtype);
    });
  } finally {
    dispose({ ...inputs });
  }
}

function measured(layer: Layer, tokens: number, before: number, options: Options, generator: Generator): Row {
  const { model, device, dtype, batch, steps } = options;
  const held = bytesInUse(device);
  const inputs = makeInputs(model, batch, tokens, { dtype, device }, generator);
  try {
    settle(Object.values(inputs));
    const given = bytesInUse(device) - held;
    const all: StepFigures[] = [];
    for (let i = 0; i <= steps; i++) {
      const figures = measureStep(layer, inputs, options);
      if (i > 0) all.push(figures);
    }
    all.sort((one, other) => total(one.seconds) - total(other.seconds));
    const { seconds, kept } = all[Math.floor(all.length / 2)]!;
    // What others held before is not the layer's.
    const peak = Math.max(...all.map((figures) => figures.peak)) - before;
    const workspace = peak - layer.bytes.weights - layer.bytes.optimizer - given - kept;
    return {
      tokens,
      seconds,
      operations: countOperations(model, batch, tokens),
      memory: { ...layer.bytes, inputs: given, kept, workspace, peak },
    };
  } finally {
    dispose({ ...inputs });
  }
}
