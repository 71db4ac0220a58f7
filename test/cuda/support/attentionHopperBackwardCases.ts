// What is asked of attention's backward on Hopper: every instance of its kernels, sizes that leave tiles ragged, and
// operands that are absent, adversarial, or NaN where nothing may look.
import type { AttentionMasks, AttentionSizes, Narrow } from '../../support/attentionOracle';
import { adversaries, makeAdversarial, operandsOf, shapesOf, sizesOf } from '../../support/fusedAttention';

export interface HopperCase {
  title: string;
  sizes: AttentionSizes;
  dtype: Narrow;
  masks: AttentionMasks;
  /** q, k, v, tq, tk, tv, g, h; an absent one is null, and as good as zeros. */
  operands: (Float64Array | null)[];
  /** Which of gq, gk, gv, gtq, gtk, gtv. */
  needs: readonly number[];
}

const all = [1, 1, 1, 1, 1, 1] as const;

interface Options {
  masks?: AttentionMasks;
  absent?: readonly number[];
  needs?: readonly number[];
  dtype?: Narrow;
  change?: (operands: Float64Array[], dtype: Narrow) => void;
}

/** Makes cases, of both types in turn where not told which: for one file of cases, whatever else is loaded. */
export function alternating() {
  let made = 0;
  return (title: string, sizes: AttentionSizes, options: Options = {}): HopperCase => {
    const { masks = {}, absent = [], needs = all, change } = options;
    const dtype = options.dtype ?? (made++ % 2 === 0 ? 'bfloat16' : 'float16');
    const operands = operandsOf(sizes, dtype, masks.layout);
    change?.(operands, dtype);
    const given = operands.map((x, i) => (absent.includes(i) ? null : x));
    return { title, sizes, dtype, masks, operands: given, needs };
  };
}

const caseOf = alternating();

/** Keys that do not count, and their values and tangents, are `fill`. */
export function fillUncounted(
  operands: Float64Array[],
  { sizes, masks }: Pick<HopperCase, 'sizes' | 'masks'>,
  fill: number,
) {
  const { keyHeads, keys, dim } = sizes;
  for (const i of [1, 2, 4, 5]) {
    const inner = masks.layout === 'BSHD';
    operands[i] = operands[i]!.map((x, at) => {
      const row = Math.floor(at / dim);
      const [batch, key] = [
        Math.floor(row / (keys * keyHeads)),
        inner ? Math.floor(row / keyHeads) % keys : row % keys,
      ];
      return key < masks.lengths![batch]! ? x : fill;
    });
  }
}

export const uncounted = (fill: number): HopperCase[] =>
  (
    [
      [sizesOf(35, 150, 64, { batch: 2 }), { lengths: [37, 128] }],
      [sizesOf(35, 70, 72, { batch: 2, heads: 2, keyHeads: 1 }), { lengths: [33, 64], causal: true, layout: 'BSHD' }],
    ] as [AttentionSizes, AttentionMasks][]
  ).map(([sizes, masks]) =>
    caseOf(`${sizes.dim} wide, what does not count is ${fill}`, sizes, {
      masks,
      dtype: 'bfloat16',
      change: (operands) => fillUncounted(operands, { sizes, masks }, fill),
    }),
  );

const sized = (
  [
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
  ] as const
).map(([queries, keys, dim]) => caseOf(`${queries} queries, ${keys} keys, ${dim} wide`, sizesOf(queries, keys, dim)));

const masked = (
  [
    ['a causal mask', sizesOf(150, 140, 64), { causal: true }],
    ['a causal mask over a longer past', sizesOf(20, 170, 72), { causal: true }],
    ['a causal mask with more queries than keys', sizesOf(150, 40, 32), { causal: true }],
    ['grouped query heads', sizesOf(70, 40, 40, { batch: 2, heads: 4, keyHeads: 2 }), {}],
    [
      'one key head for all, heads inside',
      sizesOf(34, 40, 80, { heads: 3, keyHeads: 1 }),
      { layout: 'BSHD', causal: true },
    ],
    ['heads inside', sizesOf(33, 37, 128, { batch: 2, heads: 2 }), { layout: 'BSHD' }],
    ['a number of keys per row, none included', sizesOf(9, 130, 64, { batch: 4 }), { lengths: [130, 1, 0, 65] }],
    [
      'all of it',
      sizesOf(40, 70, 96, { batch: 3, heads: 2, keyHeads: 1 }),
      { lengths: [70, 0, 65], causal: true, layout: 'BSHD', scale: 0.3 },
    ],
    ['a negative scale', sizesOf(17, 33, 8), { scale: -0.7 }],
  ] as [string, AttentionSizes, AttentionMasks][]
).map(([title, sizes, masks]) => caseOf(title, sizes, { masks }));

const names = ['q', 'k', 'v', 'tq', 'tk', 'tv', 'g', 'h'] as const;
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
  caseOf(`without ${which.map((i) => names[i]).join(', ')}, ${dim} wide`, sizesOf(34, 70, dim), {
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
  caseOf(`${adversary}`, sizesOf(20, 70, i % 2 === 0 ? 64 : 128), {
    dtype: 'bfloat16',
    change: (operands, dtype) => makeAdversarial(adversary, operands, dtype, i % 2 === 0 ? 64 : 128, 4),
  }),
);

const basic = [...sized, ...masked, ...adversarial];
/** So many of all are compared with float64 where that takes long; the others are with other kernels. */
export const basicCases = basic.length;

export const hopperCases = {
  all: [...basic, ...absent, ...instances, ...wanted, ...uncounted(0)],
  nan: uncounted(Number.NaN),
  few: [masked[0]!, masked[6]!, ...instances.slice(0, 9)],
} as const;

export const shapesOfCase = ({ sizes, masks }: HopperCase) => shapesOf(sizes, masks.layout);
