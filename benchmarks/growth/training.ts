// A training step of a DiT as its depth, its width and the batch grow, each alone.
import type { nn } from '../../lib';
import type { Group } from '../cpu';
import { trainingSteps } from '../ops/trainingSteps';

interface Size {
  depth: number;
  width: number;
  batch: number;
}

const base: Size = { depth: 4, width: 128, batch: 16 };

const grown: [of: keyof Size, values: readonly number[]][] = [
  ['depth', [1, 2, 4, 8, 16]],
  ['width', [64, 128, 256, 512]],
  ['batch', [2, 4, 8, 16, 32, 64]],
];

const headSize = 32;

const network = ({ depth, width }: Size): nn.DiTOptions => ({
  imageSize: 28,
  patchSize: 4,
  channels: 1,
  width,
  depth,
  heads: width / headSize,
  classes: 10,
});

const textOf = (size: Partial<Size>) =>
  Object.entries(size)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');

export function* trainingGrowth(): Iterable<Group> {
  for (const [of, values] of grown) {
    const { [of]: _, ...others } = base;
    for (const value of values) {
      const size = { ...base, [of]: value };
      yield {
        title: `DiT by ${of}, ${textOf(size)}, 49 tokens`,
        scaling: { series: `DiT, ${textOf(others)}`, variable: of, value },
        subjects: trainingSteps(network(size), size.batch).plain,
      };
    }
  }
}
