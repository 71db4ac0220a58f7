// Makes what attention's backward on Hopper is asked of: a file of cases for each of its kernels says which sizes leave
// that kernel's tiles ragged.
import { type AttentionMasks, type AttentionSizes, type Narrow, rounding } from '../../support/attentionOracle';
import { type adversaries, makeAdversarial, operandsOf, shapesOf, sizesOf } from '../../support/fusedAttention';

export interface HopperCase {
  title: string;
  sizes: AttentionSizes;
  dtype: Narrow;
  masks: AttentionMasks;
  /** q, k, v, tq, tk, tv, g, h; an absent one is null, and as good as zeros. */
  readonly operands: (Float64Array | null)[];
  /** Which of gq, gk, gv, gtq, gtk, gtv. */
  needs: readonly number[];
}

export const all = [1, 1, 1, 1, 1, 1] as const;
const names = ['q', 'k', 'v', 'tq', 'tk', 'tv', 'g', 'h'] as const;

export const without = (which: readonly number[]) => `without ${which.map((i) => names[i]).join(', ')}`;

interface Options {
  masks?: AttentionMasks;
  absent?: readonly number[];
  needs?: readonly number[];
  dtype?: Narrow;
  change?: (operands: Float64Array[], dtype: Narrow) => void;
}

/** Keys that do not count, and their values and tangents, are `fill`. */
function fillUncounted(
  operands: Float64Array[],
  { keyHeads, keys, dim }: AttentionSizes,
  masks: AttentionMasks,
  fill: number,
) {
  const inner = masks.layout === 'BSHD';
  for (const i of [1, 2, 4, 5]) {
    operands[i] = operands[i]!.map((x, at) => {
      const row = Math.floor(at / dim);
      const batch = Math.floor(row / (keys * keyHeads));
      const key = inner ? Math.floor(row / keyHeads) % keys : row % keys;
      return key < masks.lengths![batch]! ? x : fill;
    });
  }
}

type Masked = readonly [sizes: AttentionSizes, masks: AttentionMasks];

/** What one file of cases makes them by: of both types in turn where not told which, whatever other files are loaded. */
export function makers() {
  let made = 0;
  const caseOf = (title: string, sizes: AttentionSizes, options: Options = {}): HopperCase => {
    const { masks = {}, absent = [], needs = all, change } = options;
    const dtype = options.dtype ?? (made++ % 2 === 0 ? 'bfloat16' : 'float16');
    // Made when first asked for: most who load a file of cases run few of them.
    let given: (Float64Array | null)[] | undefined;
    const make = () => {
      const operands = operandsOf(sizes, dtype, masks.layout);
      change?.(operands, dtype);
      return operands.map((x, i) => (absent.includes(i) ? null : x));
    };
    return {
      title,
      sizes,
      dtype,
      masks,
      needs,
      get operands() {
        given ??= make();
        return given;
      },
    };
  };
  return {
    caseOf,
    /** One head, nothing masked. */
    sized: (sizes: readonly (readonly [queries: number, keys: number, dim: number])[]) =>
      sizes.map(([queries, keys, dim]) =>
        caseOf(`${queries} queries, ${keys} keys, ${dim} wide`, sizesOf(queries, keys, dim)),
      ),
    /** Each option and all at once; the sizes and lengths that go with them. */
    masked: (of: {
      causal: AttentionSizes;
      past: AttentionSizes;
      moreQueries: AttentionSizes;
      grouped: AttentionSizes;
      oneKeyHead: AttentionSizes;
      inside: AttentionSizes;
      lengths: readonly [AttentionSizes, number[]];
      allOfIt: readonly [AttentionSizes, number[]];
      negative: AttentionSizes;
    }) =>
      (
        [
          ['a causal mask', of.causal, { causal: true }],
          ['a causal mask over a longer past', of.past, { causal: true }],
          ['a causal mask with more queries than keys', of.moreQueries, { causal: true }],
          ['grouped query heads', of.grouped, {}],
          ['one key head for all, heads inside', of.oneKeyHead, { layout: 'BSHD', causal: true }],
          ['heads inside', of.inside, { layout: 'BSHD' }],
          ['a number of keys per row, none included', of.lengths[0], { lengths: of.lengths[1] }],
          ['all of it', of.allOfIt[0], { lengths: of.allOfIt[1], causal: true, layout: 'BSHD', scale: 0.3 }],
          ['a negative scale', of.negative, { scale: -0.7 }],
        ] as [string, AttentionSizes, AttentionMasks][]
      ).map(([title, sizes, masks]) => caseOf(title, sizes, { masks })),
    /** Operands that are not there, gradients that nobody wants. */
    absent: (of: readonly (readonly [dim: number, which: readonly number[], needs: readonly number[]])[]) =>
      of.map(([dim, which, needs]) =>
        caseOf(`${without(which)}, ${needs} wanted, ${dim} wide`, sizesOf(34, 70, dim), {
          masks: { causal: true },
          absent: which,
          needs,
          dtype: 'bfloat16',
        }),
      ),
    adversarial: (adversary: (typeof adversaries)[number], sizes: AttentionSizes) =>
      caseOf(adversary, sizes, {
        dtype: 'bfloat16',
        change: (operands, dtype) => makeAdversarial(adversary, operands, dtype, sizes.dim, 4),
      }),
    uncounted: (fill: number, of: readonly Masked[]) =>
      of.map(([sizes, masks]) =>
        caseOf(`${sizes.dim} wide, what does not count is ${fill}`, sizes, {
          masks,
          dtype: 'bfloat16',
          change: (operands) => fillUncounted(operands, sizes, masks, fill),
        }),
      ),
    /** All scores far below zero: weights of what does not count would be beyond any range. */
    low: (
      title: string,
      sizes: AttentionSizes,
      of: { dtype: Narrow; masks?: AttentionMasks; shift: number; share: number },
    ) =>
      caseOf(title, sizes, {
        dtype: of.dtype,
        masks: of.masks ?? {},
        change: (operands) => {
          for (const [i, shift] of [of.shift, -of.shift].entries()) {
            operands[i] = rounding(of.dtype)(operands[i]!.map((x) => shift + of.share * x));
          }
        },
      }),
  };
}

export const shapesOfCase = ({ sizes, masks }: HopperCase) => shapesOf(sizes, masks.layout);
