// Attention at the sizes of TVM's table, of DiT-XL/2 and of heads 72 wide, in floating-point operations: 4·Sq·Sk·D·H for the
// value, 12 with the tangents of all, 8 with that of the queries alone; for their backward 10, 30 and 20. A causal mask
// halves them.
import { attention as attend, jvp, rmsNorm, type Tensor, tensor } from '../../lib';
import { type PresetName, presets } from '../presets';
import { bytesOf, type Group, maker, type Scale } from './group';

export interface Size {
  batch: number;
  heads: number;
  tokens: number;
  dim: number;
  causal?: boolean;
  short?: boolean;
}

function group({ device }: Scale, { batch, heads, tokens, dim, causal = false, short = false }: Size): Group {
  const dtype = 'bfloat16';
  const product = (2 * batch * heads * tokens * tokens * dim) / (causal ? 2 : 1);
  return {
    family: 'attention',
    title: `attention, [${batch}, ${heads}, ${tokens}, ${dim}]${causal ? ' causal' : ''} ${dtype}`,
    memory: bytesOf[dtype] * 18 * batch * heads * tokens * dim + 16 * batch * heads * tokens,
    short,
    scaling: {
      series: `B ${batch}, H ${heads}, D ${dim}${causal ? ', causal' : ''}`,
      variable: 'tokens',
      value: tokens,
    },
    make: () => {
      const { held, normal, pullback } = maker(device, dtype);
      const draw = () => normal([batch, heads, tokens, dim]);
      const [q, k, v, tq, tk, tv] = [draw(), draw(), draw(), draw(), draw(), draw()];
      const f = (a: Tensor, b: Tensor, c: Tensor) => attend(a, b, c, { causal });
      const [g, h] = [draw(), draw()];
      const plain = pullback((a, b, c) => f(a!, b!, c!), [q, k, v]);
      const ofQueries = pullback((a, b, c, t) => jvp((x: Tensor) => f(x, b!, c!), [a!], [t!]), [q, k, v, tq]);
      const ofAll = pullback(
        (...x) => jvp((a: Tensor, b: Tensor, c: Tensor) => f(a, b, c), [x[0]!, x[1]!, x[2]!], [x[3]!, x[4]!, x[5]!]),
        [q, k, v, tq, tk, tv],
      );
      const inAnyOrder = pullback(
        (...x) =>
          jvp(
            (a: Tensor, b: Tensor, c: Tensor) => attend(a, b, c, { causal, deterministic: false }),
            [x[0]!, x[1]!, x[2]!],
            [x[3]!, x[4]!, x[5]!],
          ),
        [q, k, v, tq, tk, tv],
      );
      const subjects = [
        { name: 'value', run: () => f(q, k, v), flops: 2 * product },
        {
          name: 'value with tangent',
          run: () => jvp((a: Tensor, b: Tensor, c: Tensor) => f(a, b, c), [q, k, v], [tq, tk, tv]),
          flops: 6 * product,
        },
        {
          name: 'value with tangent of the queries',
          run: () => jvp((a: Tensor) => f(a, k, v), [q], [tq]),
          flops: 4 * product,
        },
        { name: 'backward of the value', run: () => plain(g), flops: 5 * product },
        { name: 'backward of both', run: () => ofAll([g, h]), flops: 15 * product },
        { name: 'backward of both, not deterministic', run: () => inAnyOrder([g, h]), flops: 15 * product },
        { name: 'backward of both, tangent of the queries', run: () => ofQueries([g, h]), flops: 10 * product },
      ];
      return { subjects, held };
    },
  };
}

interface PackedSize {
  lengths: readonly number[];
  heads: number;
  dim: number;
}

// Sequences of different lengths, packed; and QKNorm inside attention beside QKNorm before it.
function packed({ device }: Scale, { lengths, heads, dim }: PackedSize): Group {
  const dtype = 'bfloat16';
  const tokens = lengths.reduce((sum, n) => sum + n, 0);
  const product = lengths.reduce((sum, n) => sum + 2 * heads * n * n * dim, 0);
  return {
    family: 'attention',
    title: `attention, ${lengths.length} packed sequences, [${tokens}, ${heads}, ${dim}] ${dtype}`,
    memory: bytesOf[dtype] * 30 * heads * tokens * dim + 16 * heads * tokens,
    short: true,
    make: () => {
      const { held, keep, normal, pullback } = maker(device, dtype);
      const draw = () => normal([tokens, heads, dim]);
      const [q, k, v, tq, tk, tv] = [draw(), draw(), draw(), draw(), draw(), draw()];
      const [g, h] = [draw(), draw()];
      const ends = lengths.map((_, i) => lengths.slice(0, i + 1).reduce((sum, n) => sum + n, 0));
      const offsets = keep(tensor(Int32Array.of(0, ...ends), { device }));
      const sequences = { queryOffsets: offsets, keyOffsets: offsets };
      const ways = {
        '': (a: Tensor, b: Tensor, c: Tensor) => attend(a, b, c, sequences),
        ', QKNorm inside': (a: Tensor, b: Tensor, c: Tensor) => attend(a, b, c, { ...sequences, qkNorm: true }),
        ', QKNorm before': (a: Tensor, b: Tensor, c: Tensor) => attend(rmsNorm(a), rmsNorm(b), c, sequences),
      };
      const subjects = Object.entries(ways).flatMap(([way, f]) => {
        const both = pullback(
          (...x) => jvp((a: Tensor, b: Tensor, c: Tensor) => f(a, b, c), [x[0]!, x[1]!, x[2]!], [x[3]!, x[4]!, x[5]!]),
          [q, k, v, tq, tk, tv],
        );
        return [
          { name: `value with tangent${way}`, run: () => jvp(f, [q, k, v], [tq, tk, tv]), flops: 6 * product },
          { name: `backward of both${way}`, run: () => both([g, h]), flops: 15 * product },
        ];
      });
      return { subjects, held };
    },
  };
}

/** The sizes of TVM's table, of DiT-XL/2 and of wider heads; or a preset's. */
export function sizesOf(shapes?: PresetName): Size[] {
  if (shapes) return presets[shapes].attention.map((size) => ({ ...size, short: true }));
  return [
    ...[4096, 8192, 16384, 32768].map((tokens) => ({ batch: 1, heads: 24, tokens, dim: 128, short: tokens === 8192 })),
    { batch: 1, heads: 24, tokens: 8192, dim: 128, causal: true },
    { batch: 256, heads: 18, tokens: 256, dim: 64, short: true },
    { batch: 64, heads: 18, tokens: 1024, dim: 64, short: true },
    { batch: 4, heads: 18, tokens: 8192, dim: 64 },
    { batch: 256, heads: 16, tokens: 256, dim: 72 },
    { batch: 64, heads: 16, tokens: 1024, dim: 72 },
    { batch: 1, heads: 12, tokens: 8192, dim: 256 },
  ];
}

export const attention = (scale: Scale): Group[] => {
  if (scale.shapes && !scale.toy) return sizesOf(scale.shapes).map((size) => group(scale, size));
  const sizes = scale.toy ? [{ batch: 1, heads: 2, tokens: 40, dim: 24 }] : sizesOf();
  // Each of another length, 64 to 1,016 tokens.
  const lengths = Array.from({ length: scale.toy ? 3 : 120 }, (_, i) => (scale.toy ? 5 + 9 * i : 64 + 8 * i));
  const few = scale.toy ? { heads: 2, dim: 24 } : { heads: 18, dim: 64 };
  return [...sizes.map((size) => group(scale, size)), packed(scale, { lengths, ...few })];
};
