// Does the network draw training images again? Samples beside their nearest training images, in pixels, and how far they
// are: compared with real digits it never saw, and with how near those are to the samples.
import { matmul, tensor, tidy } from 'flowmap';

const area = 784;

export interface Nearest {
  /** Of each image, which of the others is nearest. */
  rows: Int32Array;
  /** And how far, as the L2 norm of the difference. */
  distances: Float64Array;
}

/** images [n, 784], among [m, 784], row-major */
export function nearest(images: Float32Array, among: Float32Array): Nearest {
  const count = images.length / area;
  const rows = new Int32Array(count);
  tidy(() => {
    const others = tensor(among, { shape: [among.length / area, area] });
    const squares = others.square().sum(1);
    for (let begin = 0; begin < count; begin += 250) {
      const part = images.slice(begin * area, (begin + 250) * area);
      const found = tidy(() => {
        const products = matmul(tensor(part, { shape: [part.length / area, area] }), others, { transposeB: true });
        return squares.sub(products.mul(2)).argmin(1).dataSync();
      });
      rows.set(found as Int32Array, begin);
    }
  });
  const distances = Float64Array.from(rows, (row, i) => {
    let sum = 0;
    for (let p = 0; p < area; p++) sum += (images[i * area + p]! - among[row * area + p]!) ** 2;
    return Math.sqrt(sum);
  });
  return { rows, distances };
}

/** The value below which that share of the distances lies. */
export function quantile(distances: Float64Array, share: number): number {
  const sorted = Float64Array.from(distances).sort();
  return sorted[Math.round(share * (sorted.length - 1))]!;
}

export interface Spread {
  least: number;
  low: number;
  median: number;
  high: number;
}

function spread(distances: Float64Array): Spread {
  const [least, low, median, high] = [0, 0.05, 0.5, 0.95].map((share) => quantile(distances, share));
  return { least: least!, low: low!, median: median!, high: high! };
}

export interface Closeness {
  /** Of the samples, and of the held-out digits, to the nearest training image. */
  samples: Spread;
  heldOut: Spread;
  /** Share of samples that are nearer to a training image than to a held-out one, of equally many each. */
  nearerToTraining: number;
  /** Sample and nearest training image side by side, [50, 28, 57]: of each class the first five. */
  first: Float32Array;
  /** Likewise, of each class the five that are nearest. */
  closest: Float32Array;
}

export function closeness(
  samples: Float32Array,
  labels: Int32Array,
  training: Float32Array,
  heldOut: Float32Array,
): Closeness {
  const toTraining = nearest(samples, training);
  const some = nearest(samples, training.subarray(0, heldOut.length)).distances;
  const unseen = nearest(samples, heldOut).distances;
  const all = Array.from(labels.keys());
  const byDistance = all.toSorted((a, b) => toTraining.distances[a]! - toTraining.distances[b]!);
  const fiveOfEach = (order: readonly number[]) =>
    Array.from({ length: 10 }, (_, digit) => order.filter((i) => labels[i] === digit).slice(0, 5)).flat();
  return {
    samples: spread(toTraining.distances),
    heldOut: spread(nearest(heldOut, training).distances),
    nearerToTraining: some.filter((distance, i) => distance < unseen[i]!).length / some.length,
    first: sideBySide(samples, training, toTraining.rows, fiveOfEach(all)),
    closest: sideBySide(samples, training, toTraining.rows, fiveOfEach(byDistance)),
  };
}

/** A grey line between the two. */
function sideBySide(samples: Float32Array, training: Float32Array, rows: Int32Array, chosen: number[]): Float32Array {
  const out = new Float32Array(chosen.length * 28 * 57);
  for (const [place, i] of chosen.entries()) {
    for (let y = 0; y < 28; y++) {
      const at = (place * 28 + y) * 57;
      out[at + 28] = 0.4;
      out.set(samples.subarray(i * area + y * 28, i * area + (y + 1) * 28), at);
      out.set(training.subarray(rows[i]! * area + y * 28, rows[i]! * area + (y + 1) * 28), at + 29);
    }
  }
  return out;
}
