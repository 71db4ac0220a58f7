// The sweep over numbers of tokens: the ceiling, the check, then a row of figures for each, until memory runs out.
import {
  type AdamW,
  dispose,
  emptyCache,
  Generator,
  memory,
  type nn,
  OutOfMemoryError,
  setMemoryLimit,
  tidy,
} from 'flowmap';
import { type Check, compare, computed, expected, type Slices } from './check';
import { type Layer, makeBlock, makeInputs, makeOptimizer } from './layer';
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

/** Called as things go on; `spoil` lets a test see the check fail. */
export interface Hooks {
  say?: (text: string) => void;
  spoil?: (got: Slices) => void;
}

export function sweep(options: Options, { say = () => {}, spoil = () => {} }: Hooks = {}): Outcome {
  const { model, device, dtype, tokens, seed, memoryLimit } = options;
  const place = { dtype, device };
  say(`measuring a ${dtype} product of ${options.gemm}³`);
  const gemm = measureGemm(options.gemm, place);
  const outcome: Outcome = { gemm, parameters: 0, check: null, rows: [], outOfMemory: null };
  const generator = new Generator(seed);
  const { limitBytes } = memory(device);
  let block: nn.DiTBlock | null = null;
  let optimizer: AdamW | null = null;
  let at = 'the layer';
  emptyCache(device);
  try {
    if (memoryLimit !== null) setMemoryLimit(memoryLimit, device);
    const before = bytesInUse(device);
    say('making the layer');
    block = makeBlock(model, place, generator);
    settle(block.parameters());
    outcome.parameters = block.parameterCount;
    const weights = bytesInUse(device) - before;

    // Before there is an optimiser: in its place the check on a CPU has room for the weights in float64.
    const few = Math.min(tokens[0]!, checkedTokens);
    at = `the check of ${few} tokens`;
    say('checking a slice against float64');
    outcome.check = checked(block, few, options, generator, spoil);

    at = "the optimiser's state";
    const without = bytesInUse(device);
    optimizer = makeOptimizer(block);
    settle(optimizer.stateDict().tensors.values());
    const held = { before, weights, optimizer: bytesInUse(device) - without };
    for (const count of tokens) {
      at = `${count} tokens`;
      say(at);
      outcome.rows.push(measured({ block, optimizer }, count, held, options, generator));
    }
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    outcome.outOfMemory = { at, message: error.message };
  } finally {
    optimizer?.dispose();
    block?.dispose();
    emptyCache(device);
    if (memoryLimit !== null) setMemoryLimit(limitBytes, device);
  }
  return outcome;
}

function checked(
  block: nn.DiTBlock,
  tokens: number,
  options: Options,
  generator: Generator,
  spoil: (got: Slices) => void,
): Check {
  const { model, device, dtype, batch, checkpoint } = options;
  const inputs = makeInputs(model, batch, tokens, { dtype, device }, generator);
  try {
    return tidy(() => {
      const got = computed(block, inputs, { checkpoint });
      spoil(got);
      return compare(got, expected(block, inputs, model), tokens, dtype);
    });
  } finally {
    dispose({ ...inputs });
  }
}

/** @param held bytes: what was in use before there was a layer, and what the layer holds between steps */
function measured(
  layer: Layer,
  tokens: number,
  held: { before: number; weights: number; optimizer: number },
  options: Options,
  generator: Generator,
): Row {
  const { model, device, dtype, batch, steps } = options;
  const without = bytesInUse(device);
  const given = makeInputs(model, batch, tokens, { dtype, device }, generator);
  try {
    settle(Object.values(given));
    const inputs = bytesInUse(device) - without;
    const all: StepFigures[] = [];
    for (let i = 0; i <= steps; i++) {
      const figures = measureStep(layer, given, options);
      if (i > 0) all.push(figures);
    }
    all.sort((one, other) => total(one.seconds) - total(other.seconds));
    const { seconds, kept } = all[Math.floor(all.length / 2)]!;
    const { before, weights, optimizer } = held;
    const peak = Math.max(...all.map((figures) => figures.peak)) - before;
    const workspace = peak - weights - optimizer - inputs - kept;
    return {
      tokens,
      seconds,
      operations: countOperations(model, batch, tokens),
      memory: { weights, optimizer, inputs, kept, workspace, peak },
    };
  } finally {
    dispose({ ...given });
  }
}
