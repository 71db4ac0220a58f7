// Training data from a safetensors file: `images` and `labels`, checked against the network and normalised.
import { FormatError } from '../errors';
import { loadSafetensors } from '../io/safetensors';
import { dispose, keep, tidy } from '../memory';
import { copy, reshape } from '../ops/shape';
import type { Tensor } from '../tensor';
import type { TrainConfig } from '../training/config';
import type { Dataset } from '../training/train';
import { UsageError } from './options';

/** Reads `config.data.path` to `device`: images float32 [N, H, W] or [N, C, H, W], labels int32 [N]. */
export async function readDataset({ data = {}, model }: TrainConfig, device: string): Promise<Dataset> {
  const { path, mean = 0, std = 1 } = data;
  if (path === undefined) throw new UsageError('config.data.path is missing: it names a safetensors file');
  if (!(std > 0)) throw new UsageError(`config.data.std must be a positive number, got ${std}`);
  const tensors = await loadSafetensors(path);
  const refuse = (detail: string): never => {
    throw new FormatError('train', `${path}: ${detail}`);
  };
  try {
    const take = (name: string, dtype: string): Tensor => {
      const x =
        tensors.get(name) ?? refuse(`'${name}' is missing; it has ${[...tensors.keys()].join(', ') || 'nothing'}`);
      return x.dtype === dtype ? x : refuse(`'${name}' must be ${dtype}, got ${x.dtype}`);
    };
    const [images, labels] = [take('images', 'float32'), take('labels', 'int32')];
    const [count = 0] = images.shape;
    const { channels, imageSize, classes } = model;
    const each = [channels, imageSize, imageSize];
    const fits = images.shape.slice(1).join() === (images.rank === 3 ? each.slice(1) : each).join();
    if (!fits || (images.rank === 3 && channels !== 1) || count === 0) {
      refuse(`'images' must have shape [N, ${each.join(', ')}] for config.model, got [${images.shape.join(', ')}]`);
    }
    if (labels.shape.join() !== String(count)) {
      refuse(`'labels' must have shape [${count}], got [${labels.shape.join(', ')}]`);
    }
    const numbers = (await labels.data()) as Int32Array;
    const wrong = classes > 0 ? numbers.findIndex((label) => label < 0 || label >= classes) : -1;
    if (wrong >= 0) refuse(`'labels' must be in [0, ${classes}), got ${numbers[wrong]} at index ${wrong}`);
    return tidy(() => ({
      images: keep(reshape(images.sub(mean).div(std), [count, ...each]).to({ device })),
      labels: keep(copy(labels).to({ device })),
    }));
  } finally {
    dispose(tensors);
  }
}
