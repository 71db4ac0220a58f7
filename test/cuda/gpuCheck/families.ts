// Every family of CUDA kernels once, in sizes that leave a block partly idle and take more than one: what the sanitizers and
// the emulator walk through. Keyed by the file in csrc/cuda.
import {
  AdamW,
  add,
  arange,
  argmax,
  attention,
  cast,
  checkFinite,
  clamp,
  clipByGlobalNorm,
  concat,
  copyInto,
  type DType,
  Ema,
  exp,
  eye,
  flip,
  full,
  Generator,
  gatedResidual,
  gelu,
  grad,
  jvp,
  layerNorm,
  layerNormModulate,
  less,
  matmul,
  max,
  mmd,
  mul,
  neg,
  oneHot,
  permute,
  RAdam,
  rand,
  randint,
  randn,
  randperm,
  reshape,
  rmsNorm,
  rmsNormModulate,
  silu,
  slice,
  softmax,
  splitQkv,
  sum,
  type Tensor,
  take,
  tanh,
  tensor,
  transpose,
  vjp,
  where,
} from '../../../lib';
import { takeVjp } from '../../../lib/ops/gather';
import { linearJvp, linearJvpVjp } from '../../../lib/ops/matmul';
import { mmdVjp } from '../../../lib/ops/mmd';
import { sample } from '../../support/checkOp';

const [rows, width] = [37, 131];
const widths: readonly DType[] = ['float32', 'float64', 'bfloat16', 'float16', 'int32'];

export type Family = (device: string) => Tensor[];
type Pullback = (cotangents: [Tensor, Tensor]) => Tensor[];

function matrix(device: string, dtype: DType = 'float32', shape: readonly number[] = [rows, width]): Tensor {
  const { values } = sample(shape, 3);
  const scaled = dtype === 'int32' ? Float64Array.from(values as Float64Array, (x) => Math.round(9 * x)) : values;
  return tensor(scaled as Float64Array, { shape, dtype, device });
}

const indices = (device: string, n: number, below: number) =>
  tensor(
    Array.from({ length: n }, (_, i) => (i * 7919) % below),
    { dtype: 'int32', device },
  );

const wideHeads = [136, 256];

// Every kernel of the fused forward: all paddings of the head size, no tangent, that of the queries, all; with masks.
function fusedForward(
  device: string,
  dtype: DType,
  dims = [24, 64, 72, 88, 128],
  [queries, keys] = [35, 71] as [number, number],
): Tensor[] {
  return dims.flatMap((dim, i) => {
    const inner = i % 2 === 0;
    const draw = (of: number, tokens: number) =>
      matrix(device, dtype, inner ? [2, tokens, of, dim] : [2, of, tokens, dim]);
    const heads = dim > 128 ? 1 : 2;
    const lengths = tensor([keys, keys - 31], { dtype: 'int32', device });
    const [q, k, keyLengths] = [draw(2 * heads, queries), draw(heads, keys), lengths];
    const f = (a: Tensor, b: Tensor, c: Tensor) =>
      attention(a, b, c, { layout: inner ? 'BSHD' : 'BHSD', causal: !inner, keyLengths });
    const [v, tq, tk] = [neg(k), mul(q, 0.5), mul(k, -0.3)];
    return [
      f(q, k, v),
      ...(jvp((a: Tensor) => f(a, k, v), [q], [tq]) as Tensor[]),
      ...(jvp((a: Tensor, b: Tensor, c: Tensor) => f(a, b, c), [q, k, v], [tq, tk, k]) as Tensor[]),
    ];
  });
}

// Every kernel of the fused backward: of values alone, with the tangent of the queries, and with all.
function fusedBackward(device: string, dtype: DType, dims = [24, 64, 72, 88, 128], keys = 37): Tensor[] {
  return dims.flatMap((dim, i) => {
    const inner = i % 2 === 0;
    const draw = (of: number, tokens: number) =>
      matrix(device, dtype, inner ? [2, tokens, of, dim] : [2, of, tokens, dim]);
    const heads = dim > 128 ? 1 : 2;
    const [q, k] = [draw(2 * heads, 35), draw(heads, keys)];
    const keyLengths = tensor([keys, 20], { dtype: 'int32', device });
    const options = { layout: inner ? 'BSHD' : 'BHSD', causal: !inner, keyLengths } as const;
    const f = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, options);
    const inAnyOrder = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, { ...options, deterministic: false });
    const [v, tq, tk] = [neg(k), mul(q, 0.5), mul(k, -0.3)];
    const [, plain] = vjp((a: Tensor, b: Tensor, c: Tensor) => f(a, b, c), [q, k, v]);
    const [, ofQueries] = vjp(
      (a: Tensor, b: Tensor, c: Tensor, ta: Tensor) => jvp((x: Tensor) => f(x, b, c), [a], [ta]),
      [q, k, v, tq],
    );
    const [ofAll, summed] = [f, inAnyOrder].map((way) => {
      const both = (a: Tensor, b: Tensor, c: Tensor, ta: Tensor, tb: Tensor, tc: Tensor) =>
        jvp((x: Tensor, y: Tensor, z: Tensor) => way(x, y, z), [a, b, c], [ta, tb, tc]);
      return vjp(both, [q, k, v, tq, tk, k])[1];
    }) as unknown as [Pullback, Pullback];
    const cotangents: [Tensor, Tensor] = [mul(q, 0.7), q];
    return [plain(q), ofQueries(cotangents), ofAll(cotangents), summed(cotangents)].flat() as Tensor[];
  });
}

export const families: Readonly<Record<string, Family>> = {
  elementwise: (device) =>
    widths.flatMap((dtype) => {
      const x = matrix(device, dtype);
      const row = slice(x, [0, 0], [1, width]);
      const column = slice(x, [0, 0], [rows, 1]);
      return [
        add(x, x),
        add(x, row),
        mul(x, column),
        mul(x, 2),
        where(less(x, row), x, 0),
        clamp(x, { low: -1, high: 1 }),
      ];
    }),
  elementwise_unary: (device) =>
    widths.filter((d) => d !== 'int32').flatMap((d) => [exp, tanh, neg].map((f) => f(matrix(device, d)))),
  // Values, values with tangents, and the backward of both.
  activation: (device) =>
    widths
      .filter((d) => d !== 'int32')
      .flatMap((d) => {
        const [x, tx] = [matrix(device, d), mul(matrix(device, d), 0.5)];
        return [gelu, silu].flatMap((f) => [
          ...jvp((y: Tensor) => f(y), [x], [tx]),
          grad((y: Tensor) => sum(add(...jvp((z: Tensor) => f(z), [y], [tx]))))(x) as Tensor,
        ]);
      }),
  // Rows shared by few threads and by many, whole packets and not, with their tangents; rows that are read again.
  norm: (device) => [
    ...widths
      .filter((d) => d !== 'int32')
      .flatMap((d) => {
        const [x, tx] = [matrix(device, d), mul(matrix(device, d), 0.5)];
        return jvp((y: Tensor) => rmsNorm(y), [x], [tx]);
      }),
    ...[32, 4160].map((n) => rmsNorm(matrix(device, 'bfloat16', [3, n]))),
    layerNorm(matrix(device, 'float32', [3, 9001])),
    ...splitQkv(matrix(device, 'float16', [2, 5, 144]), null, null, { heads: 3 }),
  ],
  norm_backward: (device) => {
    const both = (f: (x: Tensor, shift: Tensor, scale: Tensor) => Tensor, shape: readonly number[], dtype: DType) => {
      const [x, row] = [matrix(device, dtype, shape), matrix(device, dtype, [shape[0]!, shape[2]!])];
      const second = (...at: Tensor[]) => {
        const [y, ty] = jvp(f, at as [Tensor, Tensor, Tensor], [x, row, row]);
        return sum(mul(y, add(y, ty)));
      };
      return grad(second, { argnums: [0, 1, 2] })(x, row, mul(row, 0.5)) as Tensor[];
    };
    return [
      ...widths.filter((d) => d !== 'int32').flatMap((d) => both(rmsNormModulate, [3, 41, 48], d)),
      ...both(layerNormModulate, [2, 33, 131], 'float32'),
      ...both(layerNormModulate, [2, 3, 4160], 'float32'),
      grad((x: Tensor) => sum(rmsNorm(x)))(matrix(device)) as Tensor,
      ...(grad(
        (x: Tensor, q: Tensor, k: Tensor) => {
          const [, keys, v] = splitQkv(x, q, k, { heads: 2 });
          return sum(add(mul(keys, keys), mul(v, v)));
        },
        { argnums: [0, 1, 2] },
      )(
        matrix(device, 'bfloat16', [1, 300, 96]),
        matrix(device, 'bfloat16', [16]),
        matrix(device, 'bfloat16', [16]),
      ) as Tensor[]),
    ];
  },
  // Values with tangents, and the backward of both: grouped heads in both layouts, masks, tiles partly idle.
  attention_composed: (device) =>
    widths
      .filter((d) => d !== 'int32')
      .flatMap((d, i) => {
        const inner = i % 2 === 0;
        const draw = (heads: number, tokens: number) =>
          matrix(device, d, inner ? [2, tokens, heads, 20] : [2, heads, tokens, 20]);
        const [q, k, keyLengths] = [draw(4, 9), draw(2, 37), tensor([37, 11], { dtype: 'int32', device })];
        const f = (a: Tensor, b: Tensor) =>
          attention(a, b, neg(b), { layout: inner ? 'BSHD' : 'BHSD', causal: !inner, keyLengths });
        const tangents: [Tensor, Tensor] = [mul(q, 0.5), mul(k, -0.3)];
        const [values, pullback] = vjp((a: Tensor, b: Tensor) => jvp(f, [a, b], tangents), [q, k]);
        return [...values, ...(pullback([mul(q, 0.7), q]) as Tensor[])];
      }),
  // Keys that count, and packed sequences: the fused kernels and the composition.
  attention_checks: (device) => {
    const [q, keyLengths] = [matrix(device, 'bfloat16', [300, 1, 3, 8]), indices(device, 300, 4)];
    const [queryOffsets, keyOffsets] = [
      [0, 5, 5, 70],
      [0, 40, 43, 43],
    ].map((x) => tensor(x, { dtype: 'int32', device })) as [Tensor, Tensor];
    const packed = (['bfloat16', 'float32'] as const).flatMap((dtype) => {
      const [a, b] = [matrix(device, dtype, [70, 2, 24]), matrix(device, dtype, [43, 1, 24])];
      const f = (x: Tensor, y: Tensor) => attention(x, y, neg(y), { queryOffsets, keyOffsets, causal: true });
      const [values, pullback] = vjp((x: Tensor, y: Tensor) => jvp(f, [x, y], [mul(x, 0.5), mul(y, -0.3)]), [a, b]);
      return [...values, ...(pullback([a, mul(a, 0.7)]) as Tensor[])];
    });
    return [attention(q, q, q, { keyLengths }), ...packed];
  },
  // QKNorm and centred keys, inside the fused kernels and before the composition.
  attention_norms: (device) =>
    (['bfloat16', 'float16', 'float32'] as const).flatMap((dtype) => {
      const [q, k] = [matrix(device, dtype, [2, 35, 4, 24]), matrix(device, dtype, [2, 37, 2, 24])];
      const keyLengths = tensor([37, 11], { dtype: 'int32', device });
      const weight = matrix(device, dtype, [24]);
      const f = (a: Tensor, b: Tensor, w: Tensor) =>
        attention(a, b, neg(b), { layout: 'BSHD', keyLengths, centerKeys: true, qkNorm: { qWeight: w } });
      const [values, pullback] = vjp(
        (a: Tensor, b: Tensor, w: Tensor) =>
          jvp((x: Tensor, y: Tensor) => f(x, y, w), [a, b], [mul(a, 0.5), mul(b, -0.3)]),
        [q, k, weight],
      );
      return [...values, ...(pullback([mul(q, 0.7), q]) as Tensor[])];
    }),
  attention_backward_bfloat16: (device) => fusedBackward(device, 'bfloat16'),
  attention_backward_float16: (device) => fusedBackward(device, 'float16'),
  // All widths, where the device is a Hopper; and more keys than the kernel for short sequences takes.
  attention_backward_bfloat16_hopper: (device) => [
    ...fusedBackward(device, 'bfloat16', [64, 88, 128]),
    ...fusedBackward(device, 'bfloat16', [64], 1030),
  ],
  attention_backward_float16_hopper: (device) => fusedBackward(device, 'float16', [64, 88, 128]),
  attention_forward_bfloat16: (device) => fusedForward(device, 'bfloat16'),
  attention_backward_wide_bfloat16: (device) => fusedBackward(device, 'bfloat16', wideHeads),
  attention_backward_wide_float16: (device) => fusedBackward(device, 'float16', wideHeads),
  attention_forward_float16: (device) => fusedForward(device, 'float16'),
  // Of several tiles of Hopper's; on other GPUs the same as without the name.
  attention_forward_bfloat16_hopper: (device) => fusedForward(device, 'bfloat16', [40, 96, 128], [70, 150]),
  attention_forward_float16_hopper: (device) => fusedForward(device, 'float16', [64, 72], [70, 150]),
  attention_forward_wide_bfloat16: (device) => fusedForward(device, 'bfloat16', wideHeads),
  attention_forward_wide_float16: (device) => fusedForward(device, 'float16', wideHeads),
  // Values, values with tangents, and the backward of both; the last shape's tokens are shared by several blocks.
  gated_residual: (device) =>
    widths
      .filter((d) => d !== 'int32')
      .flatMap((d) =>
        [
          [3, 17, 131],
          [2, 9, 72],
          [1, 700, 40],
        ].flatMap(([batch, tokens, features]) => {
          const [x, tx] = [1, 0.5].map((c) => mul(matrix(device, d, [batch!, tokens!, features!]), c));
          const [gate, tgate] = [1, -1].map((c) => mul(matrix(device, d, [batch!, features!]), c));
          const tangents = [tx!, tgate!, x!];
          const inputs = [x!, gate!, tx!];
          const f = (...[a, b, c]: Tensor[]) => gatedResidual(a!, b!, c!);
          const both = (...at: Tensor[]) => sum(add(...jvp(f, at, tangents)));
          return [
            ...jvp(f, inputs, tangents),
            ...(grad(both, { argnums: [0, 1, 2] })(...inputs) as Tensor[]),
            ...(grad((...at: Tensor[]) => sum(mul(f(...at), x!)), { argnums: [0, 1, 2] })(...inputs) as Tensor[]),
          ];
        }),
      ),
  // Rows in registers, and rows cut into parts.
  softmax: (device) => [softmax(matrix(device)), softmax(reshape(concat([matrix(device), matrix(device)]), [1, -1]))],
  cast: (device) => widths.flatMap((from) => widths.map((to) => cast(matrix(device, from), to))),
  check_finite: (device) => [checkFinite(matrix(device), 'the matrix')],
  fill: (device) => [full([rows, width], 3, { device }), arange(0, 1001, 1, { device }), eye(rows, width, { device })],
  gather: (device) => {
    const x = matrix(device);
    const ids = indices(device, 203, rows);
    return [take(x, ids), take(x, ids, 1), takeVjp(take(x, ids), ids, [rows, width]), oneHot(ids, rows)];
  },
  // Lists of every type, through steps with and without adaptive rates.
  optim: (device) => {
    const dtypes = widths.filter((d) => d !== 'int32');
    const list = () => new Map(dtypes.map((d) => [d, matrix(device, d)]));
    const [params, grads] = [list(), list()];
    const ema = new Ema(params, 0.9);
    const { norm, scale } = clipByGlobalNorm(grads.values(), 1);
    for (const Optimizer of [AdamW, RAdam]) new Optimizer(params, { lr: 0.1 }).update(grads, { gradScale: scale });
    ema.update();
    const copies = [...list().values()];
    for (const [i, copy] of copies.entries()) copyInto(copy, params.get(dtypes[(i + 1) % 4]!)!);
    return [norm, scale, ...params.values(), ...ema.tensors.values(), ...copies];
  },
  // One block for a group, in all its forms; groups that no block has room for; tangents.
  mmd: (device) => {
    const group = (dtype: DType, m: number, n: number, dim: number) =>
      [m, n].map((count) => matrix(device, dtype, [2, count, dim])) as [Tensor, Tensor];
    const one = [1, 2, 4, 9].flatMap((m) =>
      widths
        .filter((d) => d !== 'int32')
        .flatMap((d) => mmdVjp(...group(d, m, m, 70), null, { kernel: 'laplace' }) as Tensor[]),
    );
    const wide = mmdVjp(...group('float32', 4, 4, 9001), null, { kernel: 'rbf' }) as Tensor[];
    const many = mmdVjp(...group('bfloat16', 11, 9, 5001), null, { kernel: 'imq' }) as Tensor[];
    const [x, y] = group('float32', 3, 5, 1030);
    return [...one, ...wide, ...many, ...jvp((at: Tensor) => mmd(at, y, { kernel: 'energy' }), [x], [x])];
  },
  // Groups that a cluster of blocks shares, where there are clusters: in all forms, one and more groups to a cluster.
  mmd_cluster: (device) => {
    const group = (dtype: DType, count: number, m: number, dim: number) =>
      [m, m].map((each) => matrix(device, dtype, [count, each, dim])) as [Tensor, Tensor];
    const forms: [DType, number, number, number][] = [
      ['float32', 2, 4, 9001],
      ['float32', 1, 17, 4001],
      ['float32', 1, 40, 1000],
      ['float64', 1, 2, 9001],
      ['bfloat16', 1, 1, 90001],
      ['float16', 1, 9, 9001],
    ];
    return forms.flatMap((form) => mmdVjp(...group(...form), null, { kernel: 'laplace' }) as Tensor[]);
  },
  // Not kernels of ours, but what is handed to cuBLAS: batches, transposes, value and tangent, gradients.
  matmul: (device) =>
    widths
      .filter((d) => d !== 'int32')
      .flatMap((d) => {
        const [a, b] = [matrix(device, d, [2, 1, 7, 65]), matrix(device, d, [3, 5, 65])];
        const [x, weight, bias] = [matrix(device, d), matrix(device, d, [19, width]), matrix(device, d, [19])];
        const g = matrix(device, d, [rows, 19]);
        return [
          matmul(a, b, { transposeB: true }),
          matmul(x, x, { transposeA: true }),
          ...linearJvp([x, weight, bias], [x, weight, bias]),
          ...linearJvpVjp([x, weight, x, weight], g, g, new Array<boolean>(6).fill(true)).map((t) => t!),
        ];
      }),
  random: (device) => {
    const generator = new Generator(5);
    return [
      randn([rows, width], { device, generator }),
      randn([rows, width], { device, generator, dtype: 'bfloat16' }),
      rand([rows, width], { device, generator }),
      randint(0, 10, [rows, width], { device, generator }),
    ];
  },
  // What fits a block, and what does not.
  sort: (device) => [1000, 9001].map((n) => randperm(n, { device, generator: new Generator(6) })),
  reduce: (device) => {
    const tall = matrix(device, 'float32', [3001, 5]);
    return [
      ...(['float32', 'bfloat16'] as const).flatMap((dtype) => {
        const x = matrix(device, dtype);
        return [sum(x), sum(x, 0), sum(x, 1), max(x, 1), argmax(x), argmax(x, 0)];
      }),
      ...[sum(tall), sum(tall, 0), sum(tall, 1), max(tall, 0)],
    ];
  },
  shape: (device) => {
    const x = matrix(device);
    const heads = matrix(device, 'bfloat16', [3, 17, 4, 32]);
    return [
      ...[transpose(x), transpose(heads), permute(heads, [0, 2, 1, 3]), slice(x, [1, 3], [rows, width - 1], [2, 5])],
      ...[concat([x, x], 1), flip(x, [0, 1])],
    ];
  },
};

const exact = (dtype: DType) => dtype === 'int32' || dtype === 'bool';
const tolerance: Partial<Record<DType, number>> = { float64: 1e-12, float32: 1e-5, bfloat16: 2e-2, float16: 2e-3 };

/** Where the device's results of a family are not the CPU's; empty when they agree. */
export function disagreements(name: string, device: string): string[] {
  const family = families[name]!;
  const expected = family('cpu');
  return family(device).flatMap((got, i) => {
    const [a, b] = [Array.from(expected[i]!.dataSync(), Number), Array.from(got.dataSync(), Number)];
    const near = (x: number, y: number) =>
      exact(got.dtype) ? x === y : Math.abs(x - y) <= tolerance[got.dtype]! * (1 + Math.abs(x));
    const at = a.findIndex((x, k) => !near(x, b[k]!));
    if (a.length !== b.length) return [`${name}, result ${i}: ${a.length} values on the CPU, ${b.length} on ${device}`];
    return at < 0 ? [] : [`${name}, result ${i} (${got.dtype}) at ${at}: ${a[at]} on the CPU, ${b[at]} on ${device}`];
  });
}
