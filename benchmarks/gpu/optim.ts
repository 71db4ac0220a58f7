// Steps of the optimisers over all parameters of DiT-XL/2, on a CPU of DiT-B/2.
import { AdamW, clipByGlobalNorm, Ema, globalNorm, nn, RAdam, type Tensor } from '../../lib';
import { bytesOf, dtypes, type Group, maker, type Scale } from './group';

const sizes = ({ toy, fewer }: Scale): nn.DiTOptions =>
  toy
    ? { imageSize: 4, patchSize: 2, channels: 2, width: 24, depth: 1, heads: 3, classes: 4 }
    : { imageSize: 32, channels: 4, classes: 1000, ...nn.ditPresets[fewer ? 'B/2' : 'XL/2'] };

export function optim(scale: Scale): Group[] {
  const { device } = scale;
  const shapes = nn.ditShapes(sizes(scale));
  const count = [...shapes.values()].reduce((n, shape) => n + shape.reduce((a, b) => a * b, 1), 0);
  return dtypes.map((dtype) => {
    const each = bytesOf[dtype];
    const narrow = dtype === 'bfloat16';
    // 16-bit parameters are written from float32 masters; both moments and masters are read and written.
    const state = 4 * (narrow ? 3 : 2) * count;
    const step = each * count + 2 * state + (narrow ? each : 2 * each) * count;
    return {
      family: 'optim',
      title: `${shapes.size} tensors, ${count} parameters ${dtype}`,
      memory: 2 * each * count + 2 * state + 4 * count,
      short: narrow,
      make: () => {
        const { held, normal, keep } = maker(device, dtype);
        const make = () => new Map([...shapes].map(([name, shape]) => [name, normal(shape)]));
        const [params, grads] = [make(), make()];
        const first = params.values().next().value as Tensor;
        // So little that parameters stay as they are; what works in place answers with what it changed.
        const [adamw, radam] = [AdamW, RAdam].map((Optimizer) => keep(new Optimizer(params, { lr: 1e-9 }))) as [
          AdamW,
          RAdam,
        ];
        const ema = keep(new Ema(params, 0.9999));
        const average = ema.tensors.values().next().value as Tensor;
        const update = (optimizer: AdamW | RAdam) => () => {
          optimizer.update(grads);
          return first;
        };
        const subjects = [
          { name: 'AdamW', run: update(adamw), bytes: step },
          { name: 'RAdam', run: update(radam), bytes: step },
          {
            name: 'Ema',
            run: () => {
              ema.update();
              return average;
            },
            bytes: (2 * 4 + each) * count,
          },
          { name: 'global norm', run: () => globalNorm(grads.values()), bytes: each * count },
          { name: 'global norm and scale', run: () => clipByGlobalNorm(grads.values(), 1).scale, bytes: each * count },
          {
            name: 'clipped AdamW',
            run: () => {
              adamw.update(grads, { gradScale: clipByGlobalNorm(grads.values(), 1).scale });
              return first;
            },
            bytes: step + each * count,
          },
        ];
        return { subjects, held };
      },
    };
  });
}
