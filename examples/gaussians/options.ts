// What the command line asks for.
import { join } from 'node:path';
import { parseArgs } from 'node:util';

export type ObjectiveName = 'tvm' | 'imm';

export interface Options {
  /** In the order they are trained and shown. */
  objectives: ObjectiveName[];
  seed: number;
  steps: number;
  out: string;
}

const choices: Record<string, ObjectiveName[]> = { tvm: ['tvm'], imm: ['imm'], both: ['tvm', 'imm'] };

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < least) {
    throw new Error(`--${name} must be a whole number from ${least}, got '${text}'`);
  }
  return value;
}

/** @throws Error naming the option that is unknown or out of range */
export function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      objective: { type: 'string', default: 'both' },
      seed: { type: 'string', default: '0' },
      steps: { type: 'string', default: '1500' },
      out: { type: 'string', default: join('runs', 'gaussians') },
    },
  });
  if (!Object.hasOwn(choices, values.objective)) {
    throw new Error(`--objective must be one of ${Object.keys(choices).join(', ')}, got '${values.objective}'`);
  }
  return {
    objectives: choices[values.objective]!,
    seed: wholeNumber('seed', values.seed, 0),
    steps: wholeNumber('steps', values.steps, 1),
    out: values.out,
  };
}
