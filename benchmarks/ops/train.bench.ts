// Training steps of the digits' network and of a larger one.
import { batch, guidance, network } from '../../examples/digits/network';
import type { Group } from '../cpu';
import { trainingSteps } from './trainingSteps';

const subjectsOf = (...given: Parameters<typeof trainingSteps>) => {
  const { plain, recorded } = trainingSteps(...given);
  return plain.flatMap((subject, i) => [subject, recorded[i]!]);
};

export function* groups(): Iterable<Group> {
  yield {
    title: 'digits: width 96, depth 4, 16 tokens, batch 32',
    subjects: subjectsOf(network, batch, guidance),
  };
  yield {
    title: 'width 256, depth 6, 49 tokens, batch 64',
    subjects: subjectsOf({ imageSize: 28, patchSize: 4, channels: 1, width: 256, depth: 6, heads: 8, classes: 10 }, 64),
  };
}
