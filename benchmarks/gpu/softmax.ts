// Softmax over rows that a few threads, a block, and several blocks share.
import { softmax as overRows, slice } from '../../lib';
import { errorOfFirst } from '../support/error';
import { bytesOf, dtypes, type Group, maker, type Scale, tokensOf } from './group';

const checked = 2 ** 18; // elements

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
          const few = Math.min(rows, Math.ceil(checked / width));
          const error = errorOfFirst(
            (each) => [overRows(each!)],
            [x],
            (each) => slice(each, [0, 0], [few, width]),
          );
          return { subjects: [{ name: 'softmax', run: () => overRows(x), bytes: 2 * tensor, error }], held };
        },
      };
    }),
  );
}
