// Writes value and gradients of groups that take a cluster (MMD_CASES: which) to the file MMD_RESULTS, as float64;
// test/cuda/mmdClusters.test.ts runs it on other emulated GPUs and in other schedules.
import { writeFileSync } from 'node:fs';
import { type MmdOptions, mmd, type Tensor, tensor } from '../../../lib';
import { mmdVjp } from '../../../lib/ops/mmd';
import { clusterCases } from './mmdClusterCases';

const device = 'cuda';
const results: Buffer[] = [];
const cases = clusterCases[process.env.MMD_CASES as keyof typeof clusterCases]();
for (const { dtype, given, options } of cases) {
  const [groups, m, n, dim] = given.shape;
  const x = tensor(given.x, { shape: [groups, m, dim], dtype, device });
  const y = tensor(given.y, { shape: [groups, n, dim], dtype, device });
  const perGroup = (values?: number[]) =>
    values && tensor(values, { dtype: dtype === 'float64' ? 'float64' : 'float32', device });
  const { weight, lossWeight, ...rest } = options;
  const full: MmdOptions = { ...rest, weight: perGroup(weight), lossWeight: perGroup(lossWeight) };
  const [value, gx, gy] = mmdVjp(x, y, null, full);
  const read = (t: Tensor | null) => Float64Array.from(t!.dataSync() as ArrayLike<number>, Number);
  const same = (name: string, a: Float64Array, b: Float64Array) => {
    if (!Buffer.from(a.buffer).equals(Buffer.from(b.buffer))) throw new Error(`${name} by itself has other bits`);
  };
  same('the value', read(mmd(x, y, full)), read(value));
  same('the gradient of y', read(mmdVjp(x, y, null, full, [false, true])[2]!), read(gy));
  for (const t of [value, gx, gy]) results.push(Buffer.from(read(t).buffer));
}
writeFileSync(process.env.MMD_RESULTS!, Buffer.concat(results));
process.stdout.write('{}');
