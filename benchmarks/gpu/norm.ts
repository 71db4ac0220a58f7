// Normalisation at the sizes of DiT-XL/2: rows of one weight, rows modulated per sample, queries and keys per head.
import { jvp, layerNormModulate, rmsNormModulate, splitQkv, type Tensor } from '../../lib';
import { layerNorm, layerNormJvp, layerNormJvpVjp } from '../../lib/ops/layerNorm';
import { rmsNorm, rmsNormJvp, rmsNormJvpVjp } from '../../lib/ops/norm';
import { presets } from '../presets';
import { type BenchmarkDType, bytesOf, dtypes, type Group, maker, type Scale } from './group';

function rows({ device, toy }: Scale, dtype: BenchmarkDType, preset?: { tokens: number; width: number }): Group {
  const { tokens, width } = preset ?? (toy ? { tokens: 9, width: 40 } : { tokens: 65536, width: 1152 });
  const tensor = bytesOf[dtype] * tokens * width;
  return {
    family: 'norm',
    title: `norms, [${tokens}, ${width}] ${dtype}`,
    memory: 6 * tensor,
    short: dtype === 'bfloat16',
    make: () => {
      const { held, normal } = maker(device, dtype);
      const [x, tx, g, h] = Array.from({ length: 4 }, () => normal([tokens, width])) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const weight = normal([width]);
      const subjects = [
        { name: 'rmsNorm', run: () => rmsNorm(x, weight), bytes: 2 * tensor },
        { name: 'rmsNorm with tangent', run: () => rmsNormJvp([x, weight], [tx, null]), bytes: 4 * tensor },
        {
          name: 'rmsNorm, backward',
          run: () => rmsNormJvpVjp([x, weight, null, null], g, null, [true, true, false, false]),
          bytes: 3 * tensor,
        },
        {
          name: 'rmsNorm, backward of both',
          run: () => rmsNormJvpVjp([x, weight, tx, null], g, h, [true, true, true, false]),
          bytes: 6 * tensor,
        },
        { name: 'layerNorm', run: () => layerNorm(x), bytes: 2 * tensor },
        {
          name: 'layerNorm with tangent',
          run: () => layerNormJvp([x, null, null], [tx, null, null]),
          bytes: 4 * tensor,
        },
        {
          name: 'layerNorm, backward of both',
          run: () => layerNormJvpVjp([x, null, tx, null], g, h, [true, false, false, true, false, false]),
          bytes: 6 * tensor,
        },
      ];
      return { subjects, held };
    },
  };
}

function modulated({ device, toy }: Scale, dtype: BenchmarkDType): Group {
  const [samples, tokens, width] = toy ? [2, 5, 40] : [256, 256, 1152];
  const tensor = bytesOf[dtype] * samples * tokens * width;
  const vector = bytesOf[dtype] * samples * width;
  return {
    family: 'norm',
    title: `modulated norms, [${samples}, ${tokens}, ${width}] ${dtype}`,
    memory: 7 * tensor,
    short: dtype === 'bfloat16',
    make: () => {
      const { held, normal, pullback } = maker(device, dtype);
      const inputs = () => [normal([samples, tokens, width]), normal([samples, width]), normal([samples, width])];
      const [primals, tangents] = [inputs(), inputs()];
      const [g, h] = [normal([samples, tokens, width]), normal([samples, tokens, width])];
      const subjects = [
        ['rmsNormModulate', rmsNormModulate] as const,
        ['layerNormModulate', layerNormModulate] as const,
      ].flatMap(([name, op]) => {
        const f = (...[x, shift, scale]: Tensor[]) => op(x!, shift!, scale!);
        const one = pullback(f, primals);
        const both = pullback((...at: Tensor[]) => jvp(f, at.slice(0, 3), at.slice(3)), [...primals, ...tangents]);
        return [
          { name, run: () => f(...primals), bytes: 2 * tensor + 2 * vector },
          { name: `${name} with tangent`, run: () => jvp(f, primals, tangents), bytes: 4 * tensor + 4 * vector },
          { name: `${name}, backward`, run: () => one(g), bytes: 3 * tensor + 3 * vector },
          { name: `${name}, backward of both`, run: () => both([g, h]), bytes: 6 * tensor + 6 * vector },
        ];
      });
      return { subjects, held };
    },
  };
}

function heads({ device, toy }: Scale, dtype: BenchmarkDType): Group {
  const [samples, tokens, count, features] = toy ? [2, 5, 2, 8] : [256, 256, 18, 64];
  const width = count * features;
  const tensor = bytesOf[dtype] * samples * tokens * width;
  return {
    family: 'norm',
    title: `splitQkv, ${count} heads of ${features}, [${samples}, ${tokens}, ${3 * width}] ${dtype}`,
    memory: 18 * tensor,
    short: dtype === 'bfloat16',
    make: () => {
      const { held, normal, pullback } = maker(device, dtype);
      const [qkv, tqkv] = [1, 2].map(() => normal([samples, tokens, 3 * width])) as [Tensor, Tensor];
      const [qWeight, kWeight] = [normal([features]), normal([features])];
      const f = (x: Tensor) => splitQkv(x, qWeight, kWeight, { heads: count });
      const like = () => [1, 2, 3].map(() => normal([samples, tokens, count, features])) as ReturnType<typeof f>;
      const both = pullback((x, tx) => jvp(f, [x!], [tx!]), [qkv, tqkv]);
      const [g, h] = [like(), like()];
      const plain = (x: Tensor) => splitQkv(x, null, null, { heads: count, normalize: false });
      const subjects = [
        { name: 'splitQkv, no norm', run: () => plain(qkv), bytes: 6 * tensor },
        { name: 'splitQkv', run: () => f(qkv), bytes: 6 * tensor },
        { name: 'splitQkv with tangent', run: () => jvp(f, [qkv], [tqkv]), bytes: 12 * tensor },
        { name: 'splitQkv, backward of both', run: () => both([g, h]), bytes: 18 * tensor },
      ];
      return { subjects, held };
    },
  };
}

export const norm = (scale: Scale): Group[] => {
  if (!scale.shapes || scale.toy)
    return dtypes.flatMap((dtype) => [rows, modulated, heads].map((group) => group(scale, dtype)));
  const preset = presets[scale.shapes];
  return 'rows' in preset ? dtypes.map((dtype) => rows(scale, dtype, preset.rows)) : [];
};
