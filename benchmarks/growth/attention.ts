// Attention with its tangent, and the backward of both, as tokens, head size and batch grow, each alone.
import type { Group } from '../cpu';
import { attentionSubjects } from '../ops/attentionPasses';
import type { AttentionSize } from '../presets';

const base: AttentionSize = { batch: 1, heads: 4, tokens: 1024, dim: 64 };

const grown: { of: keyof AttentionSize; variable: string; base: AttentionSize; values: readonly number[] }[] = [
  { of: 'tokens', variable: 'tokens', base, values: [64, 128, 256, 512, 1024, 2048, 4096] },
  { of: 'dim', variable: 'head size', base, values: [16, 32, 64, 128, 256] },
  { of: 'batch', variable: 'batch', base: { ...base, tokens: 256 }, values: [1, 2, 4, 8, 16, 32] },
];

const letters = { batch: 'B', heads: 'H', tokens: 'S', dim: 'D' } as const;
const names = Object.keys(letters) as (keyof AttentionSize)[];

/** 'B 1, H 4' of the sizes of these names. */
const sizesOf = (size: AttentionSize, of: readonly (keyof AttentionSize)[]) =>
  of.map((name) => `${letters[name]} ${size[name]}`).join(', ');

export function* attentionGrowth(): Iterable<Group> {
  for (const { of, variable, base: fixed, values } of grown) {
    const series = sizesOf(
      fixed,
      names.filter((name) => name !== of),
    );
    for (const value of values) {
      const size = { ...fixed, [of]: value };
      yield {
        title: `attention by ${variable}, ${sizesOf(size, names)}`,
        scaling: { series: `attention, ${series}`, variable, value },
        // Errors are measured by the family of attention.
        subjects: attentionSubjects(size, 'float32').map(({ error: _, ...subject }) => subject),
      };
    }
  }
}
