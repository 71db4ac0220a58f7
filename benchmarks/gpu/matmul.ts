// Products at the sizes of DiT-XL/2, in floating-point operations: 2 per product of two elements; a linear layer's tangent by
// its input costs as much again, and its backward of both twice that of the two values.
import { linear, matmul as product, setMatmulPrecision, type Tensor } from '../../lib';
import { linearJvp, linearJvpVjp } from '../../lib/ops/matmul';
import { presets } from '../presets';
import { type BenchmarkDType, bytesOf, dtypes, type Group, maker, type Scale } from './group';

function layer({ device }: Scale, dtype: BenchmarkDType, [tokens, from, to]: readonly number[]): Group {
  const [m, k, n] = [tokens!, from!, to!];
  const flops = 2 * m * n * k;
  return {
    family: 'matmul',
    title: `linear, [${m}, ${k}] to [${m}, ${n}] ${dtype}`,
    memory: bytesOf[dtype] * (4 * m * (n + k) + 2 * n * k),
    short: dtype === 'bfloat16',
    make: () => {
      const { held, normal } = maker(device, dtype);
      const [x, tx, g, h] = [normal([m, k]), normal([m, k]), normal([m, n]), normal([m, n])];
      const [weight, bias] = [normal([n, k]), normal([n])];
      const needs = [true, true, true, true, false, false];
      const subjects = [
        { name: 'value', run: () => linear(x, weight, bias), flops },
        {
          name: 'value with tangent',
          run: () => linearJvp([x, weight, bias], [tx, null, null]),
          flops: 2 * flops,
        },
        {
          name: 'backward',
          run: () => linearJvpVjp([x, weight, null, null], g, null, [true, true, true, false, false, false]),
          flops: 2 * flops,
        },
        {
          name: 'backward of both',
          run: () => linearJvpVjp([x, weight, tx, null], g, h, needs),
          flops: 4 * flops,
        },
      ];
      return { subjects, held };
    },
  };
}

function square({ device, toy }: Scale, dtype: BenchmarkDType): Group {
  const n = toy ? 24 : 8192;
  return {
    family: 'matmul',
    title: `matmul, ${n}³ ${dtype}`,
    memory: bytesOf[dtype] * 3 * n * n,
    short: dtype === 'bfloat16',
    make: () => {
      const { held, normal } = maker(device, dtype);
      const [a, b] = [normal([n, n]), normal([n, n])] as [Tensor, Tensor];
      const subjects = ([false, true] as const).map((transposeB) => ({
        name: transposeB ? 'a bᵀ' : 'a b',
        run: () => product(a, b, { transposeB }),
        flops: 2 * n ** 3,
      }));
      // The setting travels in the order of the stream, like the products.
      const tf32 = () => {
        setMatmulPrecision('tf32', device);
        const out = product(a, b);
        setMatmulPrecision('highest', device);
        return out;
      };
      if (dtype === 'float32') subjects.push({ name: 'a b as tf32', run: tf32, flops: 2 * n ** 3 });
      return { subjects, held };
    },
  };
}

export const matmul = (scale: Scale): Group[] => {
  if (scale.shapes && !scale.toy) {
    const preset = presets[scale.shapes];
    if (!('linear' in preset)) return [];
    const { linear: layers, rows } = preset;
    return dtypes.flatMap((dtype) => layers.map(([from, to]) => layer(scale, dtype, [rows.tokens, from, to])));
  }
  const sizes = scale.toy
    ? [[6, 24, 40]]
    : [
        [65536, 1152, 3456],
        [65536, 1152, 1152],
        [65536, 1152, 4608],
        [65536, 4608, 1152],
      ];
  return dtypes.flatMap((dtype) => [square(scale, dtype), ...sizes.map((size) => layer(scale, dtype, size))]);
};
