// Rows of a table by number: classes, of which each is asked for often, and a vocabulary as large as the batch.
import { embedding as rowsOf, tensor } from '../../lib';
import { takeVjp } from '../../lib/ops/gather';
import { bytesOf, dtypes, type Group, maker, type Scale, tokensOf } from './group';

export function embedding(scale: Scale): Group[] {
  const { device, toy } = scale;
  const [count, width] = toy ? [9, 40] : [tokensOf(scale), 1152];
  const tables = toy ? [4] : [1001, count];
  return dtypes.flatMap((dtype) =>
    tables.map((rows) => {
      const [table, taken, ids] = [bytesOf[dtype] * rows * width, bytesOf[dtype] * count * width, 4 * count];
      return {
        family: 'embedding',
        title: `embedding, ${count} of [${rows}, ${width}] ${dtype}`,
        memory: 2 * (table + taken + ids),
        short: dtype === 'bfloat16',
        make: () => {
          const { held, normal, keep } = maker(device, dtype);
          const [weight, g] = [normal([rows, width]), normal([count, width])];
          // Each row as often as any other, far apart.
          const order = Int32Array.from({ length: count }, (_, i) => (i * 7919) % rows);
          const indices = keep(tensor(order, { device }));
          const subjects = [
            { name: 'take', run: () => rowsOf(weight, indices), bytes: Math.min(table, taken) + taken + ids },
            { name: 'backward', run: () => takeVjp(g, indices, [rows, width]), bytes: table + taken + ids },
          ];
          return { subjects, held };
        },
      };
    }),
  );
}
