// Eight Gaussians on a circle, of unit standard deviation in all, and how far two clouds are apart.
import type { Generator } from 'flowmap';

const spread = 0.1;
const radius = Math.sqrt(2 * (1 - spread * spread));

/** -> [count, 2], row-major */
export function eightGaussians(count: number, generator: Generator): Float32Array {
  const modes = generator.uniform(count);
  const noise = generator.normal(2 * count);
  const points = new Float32Array(2 * count);
  for (let i = 0; i < count; i++) {
    const angle = (2 * Math.PI * Math.floor(8 * modes[i]!)) / 8;
    points[2 * i] = radius * Math.cos(angle) + spread * noise[2 * i]!;
    points[2 * i + 1] = radius * Math.sin(angle) + spread * noise[2 * i + 1]!;
  }
  return points;
}

/** Sliced Wasserstein-2 distance of two clouds of as many points: the root mean square over directions of the half circle. */
export function slicedWasserstein(a: Float32Array, b: Float32Array, directions = 64): number {
  let sum = 0;
  for (let k = 0; k < directions; k++) {
    const angle = (Math.PI * (k + 0.5)) / directions;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const project = (points: Float32Array) =>
      Float64Array.from({ length: points.length / 2 }, (_, i) => c * points[2 * i]! + s * points[2 * i + 1]!).sort();
    const [p, q] = [project(a), project(b)];
    for (const [i, value] of p.entries()) sum += (value - q[i]!) ** 2 / p.length;
  }
  return Math.sqrt(sum / directions);
}

/** The share of points within three standard deviations of a mode, and how many of the eight have at least 5 % of them. */
export function modeCoverage(points: Float32Array): { near: number; modes: number } {
  const counts = new Array<number>(8).fill(0);
  const total = points.length / 2;
  for (let i = 0; i < total; i++) {
    const [x, y] = [points[2 * i]!, points[2 * i + 1]!];
    const mode = (Math.round((Math.atan2(y, x) / (2 * Math.PI)) * 8) + 8) % 8;
    const angle = (2 * Math.PI * mode) / 8;
    if (Math.hypot(x - radius * Math.cos(angle), y - radius * Math.sin(angle)) < 3 * spread) counts[mode]! += 1;
  }
  return {
    near: counts.reduce((sum, count) => sum + count, 0) / total,
    modes: counts.filter((count) => count >= 0.05 * total).length,
  };
}
