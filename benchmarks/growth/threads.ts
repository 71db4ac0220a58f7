// The same work on one thread, on two, and so on to all that the run was given.

import { batch, guidance, network } from '../../examples/digits/network';
import { linear, randn, setThreads, type Tensor, threads } from '../../lib';
import { rmsNormJvp } from '../../lib/ops/norm';
import type { Group } from '../cpu';
import { attentionSubjects } from '../ops/attentionPasses';
import { trainingSteps } from '../ops/trainingSteps';
import { threadsVariable } from '../support/growth';
import type { Subject } from '../support/measure';

/** Every count up to eight, beyond that doubled ones, and `most`. */
export function threadCounts(most: number): number[] {
  const counts = Array.from({ length: Math.min(most, 8) }, (_, i) => i + 1);
  for (let count = 16; count < most; count *= 2) counts.push(count);
  return counts.includes(most) ? counts : [...counts, most];
}

function operations(): Subject[] {
  const size = { batch: 1, heads: 4, tokens: 1024, dim: 64 };
  const attention = attentionSubjects(size, 'float32').map(({ error: _, ...subject }) => subject);
  const [rows, inputs, outputs] = [4096, 256, 1024];
  const [x, weight, bias] = [randn([rows, inputs]), randn([outputs, inputs]), randn([outputs])];
  const [wide, tangent] = [randn([16384, 1152]), randn([16384, 1152])];
  return [
    ...attention.filter(({ name }) => name === 'attention with tangent' || name === 'backward of both'),
    {
      name: `linear, ${rows} × ${inputs} → ${outputs}`,
      run: () => linear(x, weight, bias),
      flops: 2 * rows * inputs * outputs,
      bytes: 4 * (rows * (inputs + outputs) + outputs * (inputs + 1)),
    },
    {
      name: 'rmsNorm with tangent, 16384 × 1152',
      run: (): readonly (Tensor | null)[] => rmsNormJvp([wide, null], [tangent, null]),
      bytes: 4 * 4 * wide.size,
    },
  ];
}

/** One group per number of threads; afterwards there are as many as before. */
export function* threadGroups(): Iterable<Group> {
  const before = threads();
  const works: [series: string, subjects: Subject[]][] = [
    ['operations', operations()],
    [`digits, batch ${batch}`, trainingSteps(network, batch, guidance).recorded],
  ];
  try {
    for (const [series, subjects] of works) {
      for (const value of threadCounts(before)) {
        setThreads(value);
        const title = `${series}, ${value} ${value === 1 ? 'thread' : 'threads'}`;
        yield { title, scaling: { series, variable: threadsVariable, value }, subjects };
      }
    }
  } finally {
    setThreads(before);
  }
}
