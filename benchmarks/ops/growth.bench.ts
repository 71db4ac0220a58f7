// How time grows with the work, one size at a time: the report fits the exponents.
import type { Group } from '../cpu';
import { attentionGrowth } from '../growth/attention';
import { mmdGrowth } from '../growth/mmd';
import { trainingGrowth } from '../growth/training';

export function* groups(): Iterable<Group> {
  yield* attentionGrowth();
  yield* trainingGrowth();
  yield* mmdGrowth();
}
