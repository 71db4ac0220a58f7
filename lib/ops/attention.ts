// Scaled dot-product attention. The output and its tangent are one pass over the keys, the backward of both another, and no
// matrix of all scores ever exists, but for what the fused CUDA kernels do not take.
import { type Apply, defineOp } from '../autograd/op';
import { ArgumentError } from '../errors';
import { native } from '../native';
import { Tensor } from '../tensor';
import { attentionComposition, attentionVjpComposition, countingKeys } from './attentionComposition';
import { defaultEps, rmsNormJvp } from './norm';

type MaybeTensor = Tensor | null;

/** How heads and tokens are ordered: [B, H, S, D] or, as a QKV projection leaves them, [B, S, H, D]. */
export type AttentionLayout = 'BHSD' | 'BSHD';

/** {@link attention}'s QKNorm: the weights multiply the normalised queries and keys, [D]; null or absent: ones. */
export interface AttentionQkNorm {
  qWeight?: Tensor | null;
  kWeight?: Tensor | null;
  /** Added to the mean square before the root. Default 1e-6. */
  eps?: number;
}

export interface AttentionOptions {
  /** Query i sees the keys up to i + Sk − Sq (bottom-right aligned), of its sequence. Default false. */
  causal?: boolean;
  /** Factor of q kᵀ. Default D^-½. */
  scale?: number;
  /** Default 'BHSD'. Packed sequences have their own. */
  layout?: AttentionLayout;
  /** How many keys of each batch row count, int32 [B]. Default all. */
  keyLengths?: Tensor | null;
  /** Packed sequences: where each sequence's queries begin, and the last one's end, int32 [N + 1], from 0 up to Σ Sq. */
  queryOffsets?: Tensor | null;
  /** Packed sequences: likewise of the keys, int32 [N + 1], from 0 up to Σ Sk. */
  keyOffsets?: Tensor | null;
  /**
   * RMS-normalise q and k head by head first. As {@link qkNorm} does, but the normalised tensors and their tangents are
   * not kept for the backward pass. Default false; true is without weights.
   */
  qkNorm?: boolean | AttentionQkNorm;
  /**
   * Take the mean of the keys (after qkNorm) off first. It changes no result but for rounding: in 16 bits, keys with a
   * large common part lose less. Default false.
   */
  centerKeys?: boolean;
  /**
   * The same operands give the same bits every time. Default true. False lets the backward pass on CUDA add the gradients
   * of the queries up by atomics, in the kernel that gives those of the keys: fewer operations, and another rounding every
   * time. It does so for bfloat16 and float16, head sizes up to 128, and where keys or values have tangents.
   */
  deterministic?: boolean;
}

export interface AttentionAttributes {
  causal: boolean;
  scale: number;
  layout: AttentionLayout | 'SHD';
  normalize: boolean;
  eps: number;
  centerKeys: boolean;
  deterministic: boolean;
}

export interface AttentionBackward extends AttentionAttributes {
  /** Of gq, gk, gv, gtq, gtk, gtv, gqWeight, gkWeight. */
  needs: readonly boolean[];
}

type Handle = number | null | undefined;

/** @internal What the addon is given after the operands, of qWeight, kWeight, keyLengths, queryOffsets and keyOffsets. */
export function attentionSettings(
  [qWeight, kWeight, keyLengths, queryOffsets, keyOffsets]: readonly Handle[],
  { layout, causal, scale, normalize, eps, centerKeys }: AttentionAttributes,
) {
  const weights = [qWeight ?? null, kWeight ?? null];
  const sequences = [keyLengths ?? null, queryOffsets ?? null, keyOffsets ?? null];
  return [weights, sequences, layout, causal, scale, normalize, eps, centerKeys] as const;
}

// Inputs of every op below end in qWeight, kWeight, keyLengths, queryOffsets and keyOffsets, of which the last three have
// no derivative.
const attentionOp: Apply<AttentionAttributes> = defineOp<AttentionAttributes>('attention', {
  forward: ([q, k, v, ...rest], attributes) => native.attention(q!, k!, v!, ...attentionSettings(rest, attributes)),
  vjp: ([g], { inputs: [q, k, v, ...rest], outputs: [o, lse], needs, attributes }) => {
    if (!g) return [q, k, v, ...rest].map(() => null);
    const wanted = [needs[0]!, needs[1]!, needs[2]!, false, false, false, needs[3]!, needs[4]!];
    const inputs = [q!, k!, v!, null, null, null, o!, null, lse!, null, g, null, ...rest];
    const [gq, gk, gv, , , , gqWeight, gkWeight] = attentionJvpVjpOp(inputs, { ...attributes, needs: wanted });
    return [gq!, gk!, gv!, gqWeight!, gkWeight!, null, null, null];
  },
  jvp: ([q, k, v, qWeight, kWeight, ...sequences], [tq, tk, tv, tqWeight, tkWeight], attributes) => {
    const { eps } = attributes;
    const given = { x: [q!, k!], tx: [tq!, tk!], weight: [qWeight!, kWeight!] as MaybeTensor[], attributes };
    if (tqWeight || tkWeight) {
      // Weights in motion are rare: QKNorm is an op of its own then.
      const [keyLengths] = sequences;
      const keys = [k!, tk!].map((x) => x && countingKeys(x, keyLengths!, attributes.layout)) as [Tensor, Tensor];
      const normalized = [
        rmsNormJvp([q!, qWeight!], [tq!, tqWeight!], { eps }),
        rmsNormJvp([keys[0], kWeight!], [keys[1], tkWeight!], { eps }),
      ];
      given.x = normalized.map(([x]) => x!);
      given.tx = normalized.map(([, tx]) => tx!);
      given.weight = [null, null];
      given.attributes = { ...attributes, normalize: false };
    }
    const [o, to, lse] = attentionJvpOp(
      [given.x[0]!, given.x[1]!, v!, given.tx[0]!, given.tx[1]!, tv!, ...given.weight, ...sequences],
      given.attributes,
    );
    return [
      [o!, lse!],
      [to!, null],
    ];
  },
  saves: 'both',
});

const optionNames: Record<keyof AttentionOptions, true> = {
  causal: true,
  scale: true,
  layout: true,
  keyLengths: true,
  queryOffsets: true,
  keyOffsets: true,
  qkNorm: true,
  centerKeys: true,
  deterministic: true,
};

function describe(value: unknown): string {
  return Array.isArray(value) ? 'an array' : typeof value === 'object' && value !== null ? 'an object' : String(value);
}

function qkNormOf(given: boolean | AttentionQkNorm): Required<AttentionQkNorm> {
  if (typeof given === 'boolean') return { qWeight: null, kWeight: null, eps: defaultEps };
  if (typeof given !== 'object' || given === null || Array.isArray(given) || given instanceof Tensor) {
    throw new ArgumentError(
      'attention',
      `qkNorm must be a boolean or { qWeight, kWeight, eps }, got ${describe(given)}`,
    );
  }
  for (const key of Object.keys(given)) {
    if (!['qWeight', 'kWeight', 'eps'].includes(key)) {
      throw new ArgumentError('attention', `qkNorm must have qWeight, kWeight or eps, got '${key}'`);
    }
  }
  const { qWeight = null, kWeight = null, eps = defaultEps } = given;
  return { qWeight, kWeight, eps };
}

/**
 * softmax(scale · q kᵀ) v, head by head. Query heads may be a multiple of the key heads (grouped-query attention). A query
 * that sees no key gives zeros. On CUDA, float32, float64 and head sizes other than multiples of 8 take the plain
 * composition, which is slower and writes the matrices of all scores to memory, 256 MiB of them at a time (or those of one
 * key head, packed sequences as if they were one).
 *
 * q [B, H, Sq, D], k and v [B, Hk, Sk, D] (or, in layout 'BSHD', [B, Sq, H, D] and [B, Sk, Hk, D]) -> like q. D ≤ 256.
 *
 * Packed sequences of different lengths, with queryOffsets and keyOffsets: q [Σ Sq, H, D], k and v [Σ Sk, Hk, D] -> like q;
 * each sequence's queries see its keys alone, and sequences may be empty.
 *
 * @throws ShapeError, DTypeError if q, k and v do not fit; ArgumentError if an option does not
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  for (const key of Object.keys(options)) {
    if (!Object.hasOwn(optionNames, key)) {
      const names = Object.keys(optionNames).join(', ');
      throw new ArgumentError('attention', `options must be among ${names}, got '${key}'`);
    }
  }
  const { causal = false, keyLengths = null, queryOffsets = null, keyOffsets = null } = options;
  const { centerKeys = false, deterministic = true } = options;
  const packed = queryOffsets !== null || keyOffsets !== null;
  if (packed && options.layout !== undefined) {
    throw new ArgumentError(
      'attention',
      `layout must be absent with queryOffsets and keyOffsets (packed sequences are [S, H, D]), got '${options.layout}'`,
    );
  }
  const { qkNorm = false } = options;
  const { qWeight, kWeight, eps } = qkNormOf(qkNorm);
  for (const [name, given] of Object.entries({ keyLengths, queryOffsets, keyOffsets, qWeight, kWeight })) {
    if (given !== null && !(given instanceof Tensor)) {
      throw new ArgumentError('attention', `${name} must be a tensor or null, got ${describe(given)}`);
    }
  }
  // The backward pass alone reads it, too late for an error to be understood.
  if (typeof deterministic !== 'boolean') {
    throw new ArgumentError('attention', `deterministic must be a boolean, got ${describe(deterministic)}`);
  }
  const size = q instanceof Tensor ? (q.shape[q.rank - 1] ?? 1) : 1;
  const attributes: AttentionAttributes = {
    causal,
    layout: packed ? 'SHD' : (options.layout ?? 'BHSD'),
    scale: options.scale ?? 1 / Math.sqrt(size),
    normalize: qkNorm !== false,
    eps,
    centerKeys,
    deterministic,
  };
  return attentionOp([q, k, v, qWeight, kWeight, keyLengths, queryOffsets, keyOffsets], attributes)[0]!;
}

const attentionJvpOp: Apply<AttentionAttributes> = defineOp<AttentionAttributes>('attentionJvp', {
  forward: ([q, k, v, tq, tk, tv, ...rest], attributes) =>
    native.attentionJvp(q!, k!, v!, tq ?? null, tk ?? null, tv ?? null, ...attentionSettings(rest, attributes)),
  vjp: ([g, h], { inputs: [q, k, v, tq, tk, tv, ...rest], outputs: [o, to, lse, mu], needs, attributes }) => {
    if (!g && !h) return Array<null>(11).fill(null);
    const inputs = [q!, k!, v!, tq!, tk!, tv!, o!, to!, lse!, mu!, g ?? null, h ?? null, ...rest];
    return [...attentionJvpVjpOp(inputs, { ...attributes, needs: needs.slice(0, 8) }), null, null, null];
  },
  composition: attentionComposition,
  saves: 'both',
});

const attentionJvpVjpOp: Apply<AttentionBackward> = defineOp<AttentionBackward>('attentionJvpVjp', {
  forward: ([q, k, v, tq, tk, tv, o, to, lse, mu, g, h, ...rest], attributes) =>
    native.attentionJvpVjp(
      q!,
      k!,
      v!,
      tq ?? null,
      tk ?? null,
      tv ?? null,
      o!,
      to ?? null,
      lse!,
      mu ?? null,
      g ?? null,
      h ?? null,
      ...attentionSettings(rest, attributes),
      attributes.deterministic,
      attributes.needs.map(Number),
    ),
  composition: attentionVjpComposition,
});
