// The network of the digits and what one step of it is given: apart from the recipe, for the benchmarks, which are compiled
// before there is a package to import from.

/** Images of a step. */
export const batch = 32;

/** What Terminal Velocity Matching trains in. */
export const guidance = 2;

export const network = {
  imageSize: 28,
  patchSize: 7,
  channels: 1,
  width: 96,
  depth: 4,
  heads: 4,
  classes: 10,
  init: 'xavier' as const,
  labelStd: 1,
  timeStd: 0.1,
  timeFrequencies: 64,
  timeRange: [10, 0.1] as [number, number],
};
