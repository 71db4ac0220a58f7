// Runs cases of attention's backward on an emulated Hopper in a process of its own, for tests of its kernels there.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  digestsOf,
  gradientExcesses,
  gradientNames,
  gradientRoom,
  relativeNorm,
  worst,
} from '../../support/fusedAttention';
import { type HopperCase, shapesOfCase } from './attentionHopperMakers';

const countOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** The gradients of each of the cases `which`, those that are not wanted null; their bits, and which kernels ran. */
export function runCases(folder: string, which: string, cases: readonly HopperCase[], env: Record<string, string>) {
  const file = join(folder, 'results');
  const { stderr } = digestsOf('attentionHopperBackward.ts', {
    SIMT_SM: '90',
    ...env,
    HOPPER_CASES: which,
    HOPPER_RESULTS: file,
  });
  const bytes = readFileSync(file);
  const values = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  let at = 0;
  const gradients = cases.map((each) => {
    const shapes = shapesOfCase(each);
    return each.needs.map((needed, i) => {
      if (!needed) return null;
      at += countOf(shapes[i]!);
      return values.slice(at - countOf(shapes[i]!), at);
    });
  });
  if (at !== values.length) throw new Error(`${which}: ${values.length} values, ${at} expected`);
  return { bytes, gradients, kernels: stderr.split('\n').filter((line) => /attention\w*Kernel/.test(line)) };
}

type Gradients = ReturnType<typeof runCases>['gradients'];

/** Where gradients err more than what eager 16-bit mathematics may, compared with float64. */
export const excessesOf = (cases: readonly HopperCase[], gradients: Gradients) =>
  cases.flatMap((each, i) => {
    const { title, operands, sizes, dtype, masks } = each;
    const zeroed = shapesOfCase(each).map((shape, x) => operands[x] ?? new Float64Array(countOf(shape)));
    return gradientExcesses(gradients[i]!, zeroed, sizes, dtype, masks).map((excess) => ({ title, ...excess }));
  });

/** Where gradients differ from others' by more than roundings: a share of the room that there is for errors. */
export const differencesOf = (
  cases: readonly HopperCase[],
  gradients: Gradients,
  others: Gradients,
  share: number = 1 / 4,
) =>
  cases.flatMap(({ title, dtype }, i) =>
    gradients[i]!.flatMap((x, j) => {
      const theirs = others[i]![j]!;
      if (!x || worst(x, theirs) <= 1e-5) return [];
      const difference = relativeNorm(x, theirs);
      return difference <= gradientRoom[dtype] * share ? [] : [{ title, name: gradientNames[j], difference }];
    }),
  );
