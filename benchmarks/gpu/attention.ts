// Attention at the sizes of TVM's table, of DiT-XL/2 and of heads 72 wide, in floating-point operations: 4·Sq·Sk·D·H for the
// value, 12 with the tangents of all, 8 with that of the queries alone; for their backward 10, 30 and 20. A causal mask
// halves them.
import { attention as attend, jvp, type Tensor } from '../../lib';
import { bytesOf, type Group, maker, type Scale } from './group';

interface Size {
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
        { name: 'backward of both, tangent of the queries', run: () => ofQueries([g, h]), flops: 10 * product },
      ];
      return { subjects, held };
    },
  };
}

export const attention = (scale: Scale): Group[] => {
  const sizes: Size[] = scale.toy
    ? [{ batch: 1, heads: 2, tokens: 40, dim: 24 }]
    : [
        ...[4096, 8192, 16384, 32768].map((tokens) => ({
          batch: 1,
          heads: 24,
          tokens,
          dim: 128,
          short: tokens === 8192,
        })),
        { batch: 1, heads: 24, tokens: 8192, dim: 128, causal: true },
        { batch: 256, heads: 18, tokens: 256, dim: 64, short: true },
        { batch: 64, heads: 18, tokens: 1024, dim: 64, short: true },
        { batch: 4, heads: 18, tokens: 8192, dim: 64 },
        { batch: 256, heads: 16, tokens: 256, dim: 72 },
        { batch: 64, heads: 16, tokens: 1024, dim: 72 },
      ];
  return sizes.map((size) => group(scale, size));
};
