// Brute force for the maximum mean discrepancy in double precision, the particles it is tried on, and how far results may be
// from it.
import type { MmdKernel } from '../../lib';
import { sample } from './checkOp';

export interface Case {
  kernel: MmdKernel;
  bandwidths?: number[];
  unbiased?: boolean;
  eps?: number;
  /** Per group; default ones. */
  weight?: number[];
  lossWeight?: number[];
}

export interface Particles {
  x: Float64Array;
  y: Float64Array;
  shape: [groups: number, m: number, n: number, dim: number];
}

// The kernel less one (nothing is lost: 1 is added nowhere), and its derivative by d.
function kernelAt({ kernel, bandwidths = [1] }: Case, d: number, w: number, dim: number): [number, number] {
  let [value, slope] = [0, 0];
  for (const h of bandwidths) {
    if (kernel === 'laplace') {
      value += Math.expm1((-w * d) / (h * dim));
      slope += (-w / (h * dim)) * Math.exp((-w * d) / (h * dim));
    } else if (kernel === 'rbf') {
      const t = (-w * d * d) / (2 * h * h * dim);
      value += Math.expm1(t);
      slope += ((-w * d) / (h * h * dim)) * Math.exp(t);
    } else if (kernel === 'imq') {
      const s = (w * d * d) / (h * h * dim);
      value += Math.expm1(-0.5 * Math.log1p(s));
      slope += ((-w * d) / (h * h * dim)) * (1 + s) ** -1.5;
    } else {
      value += (-w * d) / dim;
      slope += -w / dim;
    }
  }
  return [value / bandwidths.length, slope / bandwidths.length];
}

/** Value [G] and gradients of its sum over groups, every pair by itself; beside them the sizes of what a gradient adds up. */
export function bruteForce({ x, y, shape: [groups, m, n, dim] }: Particles, options: Case) {
  const { unbiased = false, eps = 1e-8 } = options;
  const value = new Float64Array(groups);
  const gx = new Float64Array(x.length);
  const gy = new Float64Array(y.length);
  const [sizeX, sizeY] = [new Float64Array(x.length), new Float64Array(y.length)];
  const sets = { x: { at: x, g: gx, size: sizeX, count: m }, y: { at: y, g: gy, size: sizeY, count: n } };
  const sum = (group: number, a: 'x' | 'y', b: 'x' | 'y', factor: number) => {
    const [w, loss] = [options.weight?.[group] ?? 1, options.lossWeight?.[group] ?? 1];
    const { at: atA, g: gA, size: sizeA, count: countA } = sets[a];
    const { at: atB, g: gB, size: sizeB, count: countB } = sets[b];
    for (let i = 0; i < countA; i++) {
      for (let j = 0; j < countB; j++) {
        if (unbiased && a === b && i === j) continue;
        const p = (group * countA + i) * dim;
        const q = (group * countB + j) * dim;
        let squares = 0;
        for (let k = 0; k < dim; k++) squares += (atA[p + k]! - atB[q + k]!) ** 2;
        const d = Math.sqrt(squares);
        const [k, slope] = kernelAt(options, Math.max(d, eps), w, dim);
        value[group]! += loss * factor * k;
        if (d <= eps) continue;
        const part = (loss * factor * slope) / d;
        for (let e = 0; e < dim; e++) {
          const each = part * (atA[p + e]! - atB[q + e]!);
          gA[p + e]! += each;
          gB[q + e]! -= each;
          sizeA[p + e]! += Math.abs(each);
          sizeB[q + e]! += Math.abs(each);
        }
      }
    }
  };
  for (let group = 0; group < groups; group++) {
    sum(group, 'x', 'x', unbiased ? 1 / (m * (m - 1)) : 1 / (m * m));
    sum(group, 'y', 'y', unbiased ? 1 / (n * (n - 1)) : 1 / (n * n));
    sum(group, 'x', 'y', -2 / (m * n));
  }
  return { value, gx, gy, sizeX, sizeY };
}

/** y is drawn by itself, or `apart` from x (particle by particle), where the two have as many. */
export function particles(shape: Particles['shape'], seed: number, apart?: number): Particles {
  const [groups, m, n, dim] = shape;
  const x = Float64Array.from(sample([groups, m, dim], seed).values);
  const other = Float64Array.from(sample([groups, n, dim], seed + 1).values);
  return { x, y: apart === undefined ? other : other.map((v, i) => x[i]! + apart * v), shape };
}

// In float64 the brute force is no better: where x and y nearly agree, both lose the digits they share.
export const allowed = {
  float64: { value: 1e-12, gradient: 1e-9 },
  float32: { value: 2e-6, gradient: 1e-5 },
  bfloat16: { value: 2e-6, gradient: 8e-3 },
  float16: { value: 2e-6, gradient: 1e-3 },
};
