// `flowmap sample`: draws images with a checkpoint's averaged weights and lays them out in a PNG.
import { full, tensor } from '../create';
import { FormatError } from '../errors';
import { writeAtomically } from '../io/atomicFile';
import { loadCheckpoint } from '../io/checkpoint';
import { encodePng, imageGrid } from '../io/png';
import { saveSafetensors } from '../io/safetensors';
import { dispose, tidy } from '../memory';
import { DiT } from '../nn/dit';
import { Generator, randn } from '../random';
import { sampleFlowMap } from '../samplers/flowMap';
import type { Tensor } from '../tensor';
import { type TrainConfig, validateConfig } from '../training/config';
import { type Command, UsageError } from './options';
import { Progress } from './progress';

/** Images a call of the network: bounds the memory however many are asked for. */
const batch = 64;

/** The network of a checkpoint of `flowmap train`, with the weights to sample with. The caller disposes it. */
async function loadNetwork(path: string): Promise<{ net: DiT; config: TrainConfig }> {
  const { tensors, state } = await loadCheckpoint(path);
  try {
    const { ema, model } = tensors;
    const given = typeof state === 'object' && state !== null && 'config' in state ? state.config : undefined;
    if (!ema || !model || given === undefined) {
      throw new FormatError(
        'sample',
        `${path} is a checkpoint, but not of a training run: it must have config, ema, model`,
      );
    }
    const config = validateConfig(given);
    const net = new DiT(config.model);
    try {
      // The averages are of the parameters alone: buffers come with the model.
      net.loadStateDict(new Map([...model, ...ema]));
    } catch (error) {
      net.dispose();
      throw error;
    }
    return { net, config };
  } finally {
    dispose(Object.values(tensors));
  }
}

/** How the last stage was trained decides how its network is asked. */
function guidanceOf({ stages, model }: TrainConfig, cfg: number | undefined) {
  const last = stages.at(-1)!;
  const doScaleParam = last.objective === 'tvm' && (last.doScaleParam ?? false);
  if (cfg !== undefined && !model.guidance) {
    throw new UsageError('--cfg: the network was trained without a guidance embedder, so its guidance is fixed');
  }
  if (last.objective === 'tvm' && last.cfg !== undefined && cfg === undefined) return { cfg: last.cfg, doScaleParam };
  return { cfg: cfg ?? 1, doScaleParam };
}

export const sample: Command = {
  options: {
    checkpoint: { type: 'string', required: true, value: 'file', help: "a training run's checkpoint.safetensors" },
    steps: { type: 'string', value: 'n', help: 'jumps, each one network evaluation; default 1' },
    class: { type: 'string', value: 'c', help: 'class of all images; default: each class in turn' },
    count: { type: 'string', value: 'n', help: 'how many images; default 10 of each class, or 64' },
    cfg: { type: 'string', value: 'w', help: 'guidance, for a network that takes it; default as trained, or 1' },
    seed: { type: 'string', value: 's', help: 'of the noise; default 0' },
    out: { type: 'string', required: true, value: 'grid.png', help: 'the images, side by side' },
    safetensors: { type: 'string', value: 'file', help: "also 'images' [N, C, H, W] float32 and 'labels' [N] int32" },
    quiet: { type: 'boolean', help: 'print errors only' },
  },
  async run(values) {
    const steps = values.whole('steps', { least: 1, otherwise: 1 });
    const seed = values.whole('seed', { least: 0, otherwise: 0 });
    const path = values.text('checkpoint')!;
    const { net, config } = await loadNetwork(path);
    try {
      const { imageSize, channels, classes } = config.model;
      if (channels !== 1 && channels !== 3) {
        throw new UsageError(`${path}: a PNG has 1 or 3 channels, and the network ${channels}`);
      }
      const only = values.whole('class', { least: 0, otherwise: -1 });
      if (only >= classes) {
        const expected = classes > 0 ? `in [0, ${classes})` : 'left out: the network knows no classes';
        throw new UsageError(`--class must be ${expected}, got ${only}`);
      }
      const everyClass = classes > 0 && only < 0;
      const count = values.whole('count', { least: 1, otherwise: everyClass ? 10 * classes : 64 });
      const given = values.text('cfg') === undefined ? undefined : values.positive('cfg', 1);
      const { cfg, doScaleParam } = guidanceOf(config, given);
      const { mean = 0, std = 1 } = config.data ?? {};
      const labels = Int32Array.from({ length: count }, (_, i) => (everyClass ? i % classes : only));
      const pixels = channels * imageSize * imageSize;
      const images = new Float32Array(count * pixels);
      const generator = new Generator(seed);
      const progress = new Progress({ label: 'sampling', total: count, quiet: values.flag('quiet') });
      for (let begin = 0; begin < count; begin += batch) {
        const size = Math.min(batch, count - begin);
        const drawn: Tensor = tidy(() => {
          const noise = randn([size, channels, imageSize, imageSize], { generator });
          const chosen = tensor(labels.subarray(begin, begin + size), { shape: [size], dtype: 'int32' });
          return sampleFlowMap(net, noise, {
            steps,
            labels: classes > 0 ? chosen : null,
            beta: cfg === 1 ? null : full([size], 1 / cfg),
            doScaleParam,
          })
            .mul(std)
            .add(mean);
        });
        images.set((await drawn.data()) as Float32Array, begin * pixels);
        drawn.dispose();
        progress.update(begin + size);
      }
      progress.finish();
      const columns = everyClass && count % classes === 0 ? classes : undefined;
      const grid = imageGrid(images, { count, height: imageSize, width: imageSize, channels, columns, scale: 2 });
      const png = encodePng(grid);
      await writeAtomically(values.text('out')!, (write) => write(png));
      const file = values.text('safetensors');
      if (file !== undefined) await save(file, images, labels, [count, channels, imageSize, imageSize]);
      if (!values.flag('quiet'))
        console.log(`drew ${count} images in ${steps} step${steps > 1 ? 's' : ''}: ${values.text('out')}`);
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
