// The cost of one tiny operation, called from JavaScript.
import { randn } from '../../lib';
import type { Group } from '../cpu';
import { operandSizes, overheadSubjects } from '../growth/overhead';

export function* groups(): Iterable<Group> {
  for (const size of operandSizes) {
    yield {
      title: `float32, ${size} ${size === 1 ? 'element' : 'elements'}`,
      subjects: overheadSubjects(randn([size]), randn([size])),
    };
  }
}
