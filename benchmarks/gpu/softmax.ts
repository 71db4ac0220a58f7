// Softmax over rows that a few threads, a block, and several blocks share.
import { softmax as overRows } from '../../lib';
import { bytesOf, dtypes, type Group, maker, type Scale, tokensOf } from './group';

export function softmax(scale: Scale): Group[] {
  const { device, toy } = scale;
  const elements = 1024 * tokensOf(scale);
  const sizes = toy ? [[5, 33] as const] : [256, 1024, 131072].map((width) => [elements / width, width] as const);
  return dtypes.flatMap((dtype) =>
    sizes.map(([rows, width]) => {
      const tensor = bytesOf[dtype] * rows * width;
      return {
        family: 'softmax',
        title: `softmax, [${rows}, ${width}] ${dtype}`,
        memory: 2 * tensor,
        short: dtype === 'bfloat16',
        make: () => {
          const { held, normal } = maker(device, dtype);
          const x = normal([rows, width]);
          return { subjects: [{ name: 'softmax', run: () => overRows(x), bytes: 2 * tensor }], held };
        },
      };
    }),
  );
}
