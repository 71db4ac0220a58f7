// What the forward of attention for Hopper is tested with: tiles of 64 to 128 keys, blocks of 128 queries in two halves.
import type { AttentionMasks, AttentionSizes, Narrow } from '../../support/attentionOracle';
import { adversaries, makeAdversarial, masked, narrow, operandsOf, sizesOf } from '../../support/fusedAttention';
import type { ForwardCase, Presence } from '../../support/fusedForward';

export interface HopperCase extends ForwardCase {
  title: string;
  /** Results are to be those of this case, to the bit. */
  same?: string;
}

const caseOf = (
  title: string,
  sizes: AttentionSizes,
  dtype: Narrow,
  masks: AttentionMasks = {},
  more: Partial<HopperCase> = {},
): HopperCase => ({ title, sizes, dtype, masks, operands: operandsOf(sizes, dtype, masks.layout), ...more });

const zeroed = (operands: readonly Float64Array[], present: Presence) =>
  operands.map((x, i) => (i < 3 || i > 5 || present[i - 3] ? x : x.map(() => 0)));

function shapes(): HopperCase[] {
  const tokens = [
    [1, 1],
    [17, 129],
    [64, 65],
    [65, 64],
    [127, 17],
    [129, 127],
    [1, 200],
    [200, 1],
    [128, 128],
    [130, 300],
  ] as const;
  const dims = [8, 128, 64, 72, 40, 96, 104, 24, 80, 64];
  return tokens.map(([queries, keys], i) => {
    const [dim, dtype] = [dims[i]!, narrow[i % 2]!];
    return caseOf(`${queries} queries, ${keys} keys, ${dim} wide, ${dtype}`, sizesOf(queries, keys, dim), dtype);
  });
}

function options(): HopperCase[] {
  // More items than there are blocks, halves that see fewer keys than the item, tails that end in every tile.
  const many = (keys: number, dim: number, dtype: Narrow, masks: AttentionMasks) =>
    caseOf(`many heads ${dim} wide`, sizesOf(130, keys, dim, { batch: 3, heads: 3, keyHeads: 1 }), dtype, masks);
  return [
    ...masked
      .filter(([, { dim }]) => dim <= 128)
      .map(([title, sizes, masks], i) => caseOf(title, sizes, narrow[i % 2]!, masks)),
    many(131, 64, 'bfloat16', { causal: true, lengths: [129, 0, 37] }),
    many(70, 128, 'float16', { layout: 'BSHD', lengths: [65, 70, 1] }),
  ];
}

function adversarial(): HopperCase[] {
  // The key that leads is in a later tile.
  return adversaries.map((adversary, i) => {
    const [dim, dtype] = [[64, 72, 128][i % 3]!, narrow[i % 2]!];
    const made = caseOf(adversary, sizesOf(20, 170, dim), dtype);
    const operands = [...made.operands];
    makeAdversarial(adversary, operands, dtype, dim, 8, 150);
    return { ...made, operands };
  });
}

function tangents(): HopperCase[] {
  return [64, 96, 128].flatMap((dim) => {
    const sizes = sizesOf(40, 140, dim);
    const causal = { causal: true };
    const given = operandsOf(sizes, 'bfloat16');
    const still = zeroed(given, [false, false, false]);
    const named = (what: string) => `${dim} wide, ${what}`;
    const zeros = caseOf(named('all tangents zero'), sizes, 'bfloat16', causal, { operands: still });
    const queries = caseOf(named("zeros for the queries' tangent"), sizes, 'bfloat16', causal, {
      operands: still,
      present: [true, false, false],
      same: zeros.title,
    });
    const plain = caseOf(named('no tangents'), sizes, 'bfloat16', causal, { plain: true, same: zeros.title });
    const absent = ([1, 2, 4, 5] as const).flatMap((bits) => {
      const present: Presence = [(bits & 1) !== 0, (bits & 2) !== 0, (bits & 4) !== 0];
      const what = named(`tangents ${bits}`);
      const operands = zeroed(given, present);
      return [
        caseOf(`${what} and zeros`, sizes, 'bfloat16', {}, { operands }),
        caseOf(`${what} alone`, sizes, 'bfloat16', {}, { operands, present, same: `${what} and zeros` }),
      ];
    });
    return [zeros, queries, plain, ...(dim === 96 ? [] : absent)];
  });
}

function unseen(): HopperCase[] {
  return [64, 72, 128].flatMap((dim) => {
    const sizes = sizesOf(35, 140, dim, { batch: 3 });
    const lengths = [37, 130, 140];
    const filled = (fill: number) =>
      operandsOf(sizes, 'bfloat16').map((x, i) =>
        i % 3 === 0
          ? x
          : x.map((value, at) => (Math.floor(at / dim) % 140 < lengths[Math.floor(at / (140 * dim))]! ? value : fill)),
      );
    const zeros = caseOf(`${dim} wide, zeros beyond`, sizes, 'bfloat16', { lengths }, { operands: filled(0) });
    const nans = caseOf(`${dim} wide, NaN beyond`, sizes, 'bfloat16', { lengths }, { operands: filled(Number.NaN) });
    return [zeros, { ...nans, same: zeros.title }];
  });
}

export const hopperCases = { shapes, options, adversarial, tangents, unseen };
