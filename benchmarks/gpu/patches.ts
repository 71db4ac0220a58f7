// Images to patches and back, as transformers take them, and the embedding of latents of DiT-XL/2.
import { add, linear, permute, reshape, type Tensor } from '../../lib';
import { bytesOf, dtypes, type Group, maker, type Scale, tokensOf } from './group';

function apart(images: Tensor, p: number): Tensor {
  const [batch, channels, height, width] = images.shape as [number, number, number, number];
  const split = reshape(images, [batch, channels, height / p, p, width / p, p]);
  return reshape(permute(split, [0, 2, 4, 1, 3, 5]), [batch, (height * width) / (p * p), channels * p * p]);
}

function together(patches: Tensor, side: number, p: number): Tensor {
  const [batch, , features] = patches.shape as [number, number, number];
  const channels = features / (p * p);
  const split = reshape(patches, [batch, side, side, p, p, channels]);
  return reshape(permute(split, [0, 5, 1, 3, 2, 4]), [batch, channels, side * p, side * p]);
}

export function patches(scale: Scale): Group[] {
  const { device, toy } = scale;
  const samples = tokensOf(scale) / 256;
  const copies = dtypes.flatMap((dtype) =>
    [2, 8].map((p) => {
      const [batch, channels, size] = toy ? [2, 3, 16] : [samples, 4, 256];
      const tensor = bytesOf[dtype] * batch * channels * size * size;
      return {
        family: 'patches',
        title: `patches of ${p}, [${batch}, ${channels}, ${size}, ${size}] ${dtype}`,
        memory: 3 * tensor,
        short: dtype === 'bfloat16',
        make: () => {
          const { held, normal } = maker(device, dtype);
          const images = normal([batch, channels, size, size]);
          const tokens = normal([batch, (size / p) ** 2, p * p * channels]);
          const subjects = [
            { name: 'to patches', run: () => apart(images, p), bytes: 2 * tensor },
            { name: 'from patches', run: () => together(tokens, size / p, p), bytes: 2 * tensor },
          ];
          return { subjects, held };
        },
      };
    }),
  );
  const embeddings = dtypes.map((dtype) => {
    const [batch, channels, size, p, features] = toy ? [2, 4, 8, 2, 24] : [samples, 4, 32, 2, 1152];
    const tokens = (size / p) ** 2;
    const each = bytesOf[dtype];
    const latents = each * batch * channels * size * size;
    const embedded = each * batch * tokens * features;
    return {
      family: 'patches',
      title: `patch embedding, [${batch}, ${channels}, ${size}, ${size}] to [${batch}, ${tokens}, ${features}] ${dtype}`,
      memory: 2 * latents + 3 * embedded,
      short: dtype === 'bfloat16',
      make: () => {
        const { held, normal } = maker(device, dtype);
        const images = normal([batch, channels, size, size]);
        const [weight, bias] = [normal([features, channels * p * p]), normal([features])];
        const positions = normal([1, tokens, features]);
        const subjects = [
          { name: 'linear of patches', run: () => linear(apart(images, p), weight, bias), bytes: latents + embedded },
          {
            name: 'with positions',
            run: () => add(linear(apart(images, p), weight, bias), positions),
            bytes: latents + embedded + each * tokens * features,
          },
        ];
        return { subjects, held };
      },
    };
  });
  return [...copies, ...embeddings];
}
