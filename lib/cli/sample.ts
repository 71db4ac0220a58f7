// `flowmap sample`: draws images with a checkpoint's averaged weights and lays them out in a PNG.
import { tensor } from '../create';
import { writeAtomically } from '../io/atomicFile';
import { encodePng, imageGrid } from '../io/png';
import { saveSafetensors } from '../io/safetensors';
import { dispose, tidy } from '../memory';
import { Generator, randn } from '../random';
import type { Tensor } from '../tensor';
import { loadNetwork } from './network';
import { type Command, UsageError } from './options';
import { Progress } from './progress';

/** Images a call of the network: bounds the memory however many are asked for. */
const batch = 64;

export const sample: Command = {
  options: {
    checkpoint: { type: 'string', required: true, value: 'file', help: 'what train or import wrote' },
    steps: {
      type: 'string',
      value: 'n',
      help: 'jumps, or of flow matching Euler steps, each one network evaluation; default 1',
    },
    class: { type: 'string', value: 'c', help: 'class of all images; default: each class in turn' },
    count: { type: 'string', value: 'n', help: 'how many images; default 10 of each class, or 64' },
    cfg: {
      type: 'string',
      value: 'w',
      help: 'guidance: an input of the network (TVM), or two evaluations a step (IMM, CT, FM); default as trained, or 1',
    },
    device: { type: 'string', value: 'name', help: "'cpu' (default), 'cuda' or 'cuda:1'" },
    seed: { type: 'string', value: 's', help: 'of the noise; default 0' },
    out: { type: 'string', value: 'grid.png', help: 'the images, side by side' },
    safetensors: { type: 'string', value: 'file', help: "'images' [N, C, H, W] float32 and 'labels' [N] int32" },
    quiet: { type: 'boolean', help: 'print errors only' },
  },
  async run(values) {
    const steps = values.whole('steps', { least: 1, otherwise: 1 });
    const seed = values.whole('seed', { least: 0, otherwise: 0 });
    const path = values.text('checkpoint')!;
    const [out, file] = [values.text('out'), values.text('safetensors')];
    if (out === undefined && file === undefined) throw new UsageError('--out <grid.png> or --safetensors is missing');
    const device = values.text('device') ?? 'cpu';
    const { net, model, data, guided } = await loadNetwork(path);
    try {
      net.to({ device });
      const { imageSize, channels, classes } = model;
      if (out !== undefined && channels !== 1 && channels !== 3) {
        throw new UsageError(
          `${path}: a PNG has 1 or 3 channels, and the network ${channels}; --safetensors alone takes them`,
        );
      }
      const only = values.whole('class', { least: 0, otherwise: -1 });
      if (only >= classes) {
        const expected = classes > 0 ? `in [0, ${classes})` : 'left out: the network knows no classes';
        throw new UsageError(`--class must be ${expected}, got ${only}`);
      }
      const everyClass = classes > 0 && only < 0;
      const count = values.whole('count', { least: 1, otherwise: everyClass ? 10 * classes : 64 });
      const given = values.text('cfg') === undefined ? undefined : values.positive('cfg', 1);
      const draw = guided(given);
      const { mean = 0, std = 1 } = data;
      const labels = Int32Array.from({ length: count }, (_, i) => (everyClass ? i % classes : only));
      const pixels = channels * imageSize * imageSize;
      const images = new Float32Array(count * pixels);
      const generator = new Generator(seed);
      const progress = new Progress({ label: 'sampling', total: count, quiet: values.flag('quiet') });
      for (let begin = 0; begin < count; begin += batch) {
        const size = Math.min(batch, count - begin);
        const drawn: Tensor = tidy(() => {
          const noise = randn([size, channels, imageSize, imageSize], { generator, device });
          const chosen = tensor(labels.subarray(begin, begin + size), { shape: [size], dtype: 'int32', device });
          return draw(noise, { steps, labels: classes > 0 ? chosen : null, generator })
            .mul(std)
            .add(mean);
        });
        images.set((await drawn.data()) as Float32Array, begin * pixels);
        drawn.dispose();
        progress.update(begin + size);
      }
      progress.finish();
      if (out !== undefined) {
        const columns = everyClass && count % classes === 0 ? classes : undefined;
        const size = { height: imageSize, width: imageSize, channels: channels as 1 | 3 };
        const png = encodePng(imageGrid(images, { count, ...size, columns, scale: 2 }));
        await writeAtomically(out, (write) => write(png));
      }
      if (file !== undefined) await save(file, images, labels, [count, channels, imageSize, imageSize]);
      if (!values.flag('quiet'))
        console.log(`drew ${count} images in ${steps} step${steps > 1 ? 's' : ''}: ${out ?? file}`);
      return 0;
    } finally {
      net.dispose();
    }
  },
};

async function save(path: string, images: Float32Array, labels: Int32Array, shape: number[]): Promise<void> {
  const tensors = {
    images: tensor(images, { shape, dtype: 'float32' }),
    labels: tensor(labels, { shape: [labels.length], dtype: 'int32' }),
  };
  try {
    await saveSafetensors(path, tensors);
  } finally {
    dispose(tensors);
  }
}
