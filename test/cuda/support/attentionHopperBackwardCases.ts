// What is asked of attention's backward on Hopper: every instance of its kernels, sizes that leave tiles ragged, and
// operands that are absent, adversarial, or NaN where nothing may look.
import { adversaries, sizesOf } from '../../support/fusedAttention';
import { all, makers, without } from './attentionHopperMakers';

const make = makers();
const { caseOf } = make;

const uncounted = (fill: number) =>
  make.uncounted(fill, [
    [sizesOf(35, 150, 64, { batch: 2 }), { lengths: [37, 128] }],
    [sizesOf(35, 70, 72, { batch: 2, heads: 2, keyHeads: 1 }), { lengths: [33, 64], causal: true, layout: 'BSHD' }],
  ]);

const sized = make.sized([
  [1, 1, 8],
  [17, 64, 64],
  [64, 17, 32],
  [65, 127, 64],
  [127, 65, 128],
  [129, 200, 64],
  [140, 70, 72],
  [20, 1, 16],
  [1, 129, 128],
  [17, 64, 104],
]);

const masked = make.masked({
  causal: sizesOf(150, 140, 64),
  past: sizesOf(20, 170, 72),
  moreQueries: sizesOf(150, 40, 32),
  grouped: sizesOf(70, 40, 40, { batch: 2, heads: 4, keyHeads: 2 }),
  oneKeyHead: sizesOf(34, 40, 80, { heads: 3, keyHeads: 1 }),
  inside: sizesOf(33, 37, 128, { batch: 2, heads: 2 }),
  lengths: [sizesOf(9, 130, 64, { batch: 4 }), [130, 1, 0, 65]],
  allOfIt: [sizesOf(40, 70, 96, { batch: 3, heads: 2, keyHeads: 1 }), [70, 0, 65]],
  negative: sizesOf(17, 33, 8),
});

const absent = (
  [
    [64, [3]],
    [64, [4]],
    [64, [5]],
    [64, [3, 4, 5]],
    [64, [6]],
    [64, [4, 5, 6]],
    [72, [4]],
    [128, [6]],
    [128, [3, 4, 5, 7]],
  ] as const
).map(([dim, which]) =>
  caseOf(`${without(which)}, ${dim} wide`, sizesOf(34, 70, dim), {
    masks: { causal: true },
    absent: which,
    dtype: 'bfloat16',
  }),
);

// Each instance of the kernels: widths, and the tangents that they know.
const tangents = [
  ['none', [7], all],
  ["the queries'", [4, 5], [1, 1, 1, 1, 0, 0]],
  ['all', [], all],
] as const;
const instances = (['bfloat16', 'float16'] as const).flatMap((dtype) =>
  [40, 96, 112].flatMap((dim) =>
    tangents.map(([title, absent, needs]) =>
      caseOf(`tangents: ${title}, ${dim} wide`, sizesOf(37, 35, dim, { heads: 2, keyHeads: 1 }), {
        masks: { causal: true },
        absent,
        needs,
        dtype,
      }),
    ),
  ),
);

const wanted = (
  [
    [64, [1, 0, 0, 0, 0, 0]],
    [64, [0, 0, 0, 1, 0, 0]],
    [64, [0, 0, 0, 0, 1, 0]],
    [96, [0, 1, 0, 0, 0, 0]],
    [96, [0, 0, 1, 0, 0, 1]],
  ] as const
).map(([dim, needs]) => caseOf(`${needs} wanted, ${dim} wide`, sizesOf(20, 45, dim), { needs }));

const adversarial = adversaries.map((adversary, i) =>
  make.adversarial(adversary, sizesOf(20, 70, i % 2 === 0 ? 64 : 128)),
);

const basic = [...sized, ...masked, ...adversarial];
/** So many of all are compared with float64 where that takes long; the others are with other kernels. */
export const basicCases = basic.length;

export const hopperCases = {
  all: [...basic, ...absent, ...instances, ...wanted, ...uncounted(0)],
  nan: uncounted(Number.NaN),
  few: [masked[0]!, masked[6]!, ...instances.slice(0, 9)],
} as const;
