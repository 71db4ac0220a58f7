// What is asked of the kernel that gives all gradients of attention on Hopper, of heads of up to 64: 128 keys a block,
// tiles of 32 queries; as attentionHopperBackwardCases.ts for the others.
import { adversaries, sizesOf } from '../../support/fusedAttention';
import { all, makers } from './attentionHopperMakers';

const make = makers();
const { caseOf } = make;

const sized = make.sized([
  [1, 1, 8],
  [17, 128, 64],
  [64, 17, 32],
  [65, 127, 40],
  [200, 65, 64],
  [20, 1, 16],
  [1, 129, 56],
]);

const masked = make.masked({
  causal: sizesOf(150, 140, 64),
  past: sizesOf(20, 170, 48),
  moreQueries: sizesOf(150, 40, 32),
  grouped: sizesOf(40, 140, 40, { batch: 2, heads: 4, keyHeads: 2 }),
  oneKeyHead: sizesOf(70, 70, 64, { heads: 3, keyHeads: 1 }),
  inside: sizesOf(33, 37, 24, { batch: 2, heads: 2 }),
  lengths: [sizesOf(9, 130, 64, { batch: 4 }), [130, 1, 0, 65]],
  allOfIt: [sizesOf(40, 140, 64, { batch: 3, heads: 2, keyHeads: 1 }), [140, 0, 65]],
  negative: sizesOf(17, 33, 8),
});

const absent = make.absent([
  [64, [3], all],
  [40, [4], all],
  [64, [5], all],
  [64, [6], all],
  [64, [3, 4, 5], all],
  [32, [], [1, 1, 0, 0, 0, 0]],
  [64, [4], [0, 0, 1, 1, 1, 0]],
  [64, [], [1, 0, 0, 1, 1, 1]],
]);

const adversarial = adversaries.map((adversary) => make.adversarial(adversary, sizesOf(20, 70, 64)));

const low = (['bfloat16', 'float16'] as const).map((dtype, i) =>
  make.low(`scores far below zero, ${dtype}`, sizesOf(20, 140, 64), {
    dtype,
    ...(i === 0 ? {} : { masks: { lengths: [70] } }),
    shift: 6,
    share: 0.1,
  }),
);

const instances = (['bfloat16', 'float16'] as const).map((dtype) =>
  caseOf(`64 wide, ${dtype}`, sizesOf(70, 140, 64, { heads: 2, keyHeads: 1 }), { masks: { causal: true }, dtype }),
);

const uncounted = (fill: number) =>
  make.uncounted(fill, [
    [sizesOf(40, 150, 64, { batch: 2 }), { lengths: [37, 128] }],
    [sizesOf(35, 140, 40, { batch: 2, heads: 2, keyHeads: 1 }), { lengths: [33, 130], causal: true, layout: 'BSHD' }],
  ]);

const basic = [...sized, ...adversarial, ...low, ...masked.slice(4)];
/** So many of all are compared with float64 where that takes long; the others are with the pair of kernels. */
export const basicFusedCases = basic.length;

export const fusedCases = {
  fused: [...basic, ...masked.slice(0, 4), ...absent, ...instances, ...uncounted(0)],
  fusedNan: uncounted(Number.NaN),
  fusedFew: [masked[0]!, masked[6]!, ...instances],
} as const;
