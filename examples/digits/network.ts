// The network of the digits and what one step of it is given: apart from the recipe, for the benchmarks.
import type { TrainConfig } from 'flowmap';

/** Images of a step. */
export const batch = 32;

/** What Terminal Velocity Matching trains in. */
export const guidance = 2;

export const network: TrainConfig['model'] = {
  imageSize: 28,
  patchSize: 7,
  channels: 1,
  width: 96,
  depth: 4,
  heads: 4,
  classes: 10,
  init: 'xavier',
  labelStd: 1,
  timeStd: 0.1,
  timeFrequencies: 64,
  timeRange: [10, 0.1],
};
