// Writes the gradients of cases of attention's backward (HOPPER_CASES: which) to the file HOPPER_RESULTS, as float64;
// tests of kernels for Hopper (attentionHopperRuns.ts) run it with these kernels, with others, and in other schedules.
// What the forward pass leaves is the CPU's, alike for all. With HOPPER_ORDER=any sums may have any order.
import { writeFileSync } from 'node:fs';
import { Tensor, tensor } from '../../../lib';
import { native } from '../../../lib/native';
import { settingsOf } from '../../support/fusedAttention';
import { hopperCases } from './attentionHopperBackwardCases';
import { clusterCases } from './attentionHopperClusterCases';
import { fusedCases } from './attentionHopperFusedCases';
import { type HopperCase, shapesOfCase } from './attentionHopperMakers';
import { splitCases } from './attentionHopperSplitCases';

const cases: Record<string, readonly HopperCase[]> = { ...hopperCases, ...fusedCases, ...splitCases, ...clusterCases };
const results: Buffer[] = [];
for (const each of cases[process.env.HOPPER_CASES!]!) {
  const { operands, sizes, dtype, masks, needs } = each;
  const shapes = shapesOfCase(each);
  const given = operands.map((x, i) => x && tensor(x, { shape: shapes[i]!, dtype, device: 'cpu' }));
  const on = (device: string) => {
    const moved = (x: Tensor | null | undefined) => x?.to({ device }) ?? null;
    const lengths = masks.lengths ? tensor(Int32Array.from(masks.lengths), { device }) : null;
    return { given: given.map(moved), moved, settings: settingsOf(sizes.dim, masks, lengths) };
  };
  const handle = (x: Tensor | null) => x?._handle ?? null;
  const cpu = on('cpu');
  const [q, k, v, tq, tk, tv] = cpu.given.map(handle) as never[];
  const forward = cpu.given.slice(3, 6).some(Boolean)
    ? (native.attentionJvp(q!, k!, v!, tq!, tk!, tv!, ...cpu.settings) as unknown as never[])
    : (([o, lse]) => [o, null, lse, null])(native.attention(q!, k!, v!, ...cpu.settings) as unknown as never[]);
  const cuda = on('cuda');
  const saved = forward.map((x) => handle(cuda.moved(x ? new Tensor(x as never) : null)));
  const [g, h] = cuda.given.slice(6).map(handle);
  const gradients = native.attentionJvpVjp(
    ...([
      ...cuda.given.slice(0, 6).map(handle),
      ...saved,
      g,
      h,
      ...cuda.settings,
      process.env.HOPPER_ORDER !== 'any',
      [...needs, 0, 0],
    ] as unknown as Parameters<typeof native.attentionJvpVjp>),
  ) as unknown as unknown[];
  for (const x of gradients.slice(0, 6)) {
    if (!x) continue;
    const values = new Tensor(x as never).dataSync() as ArrayLike<number>;
    results.push(Buffer.from(Float64Array.from(values, Number).buffer));
  }
}
writeFileSync(process.env.HOPPER_RESULTS!, Buffer.concat(results));
process.stdout.write('{}');
