// The Frechet distance between Gaussians fitted to two sets of features (Heusel et al., arXiv 1706.08500), in double
// precision, as a percentage of the real features' variance: free of the features' scale.

interface Gaussian {
  mean: Float64Array;
  /** [d, d] */
  covariance: Float64Array;
}

/** rows [n, d] */
export function fit(rows: Float64Array, d: number): Gaussian {
  const n = rows.length / d;
  const mean = new Float64Array(d);
  for (let i = 0; i < rows.length; i++) mean[i % d]! += rows[i]! / n;
  const covariance = new Float64Array(d * d);
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < d; i++) {
      const a = rows[row * d + i]! - mean[i]!;
      for (let j = 0; j < d; j++) covariance[i * d + j]! += (a * (rows[row * d + j]! - mean[j]!)) / (n - 1);
    }
  }
  return { mean, covariance };
}

/** Eigenvalues and vectors (columns) of a symmetric matrix, by Jacobi's rotations. */
export function eigen(matrix: Float64Array, d: number): { values: Float64Array; vectors: Float64Array } {
  const a = Float64Array.from(matrix);
  const vectors = new Float64Array(d * d);
  for (let i = 0; i < d; i++) vectors[i * d + i] = 1;
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    let all = 0;
    for (let i = 0; i < d; i++) {
      for (let j = 0; j < d; j++) {
        all += a[i * d + j]! ** 2;
        if (i !== j) off += a[i * d + j]! ** 2;
      }
    }
    if (off <= 1e-26 * all) break;
    for (let p = 0; p < d; p++) {
      for (let q = p + 1; q < d; q++) {
        const apq = a[p * d + q]!;
        if (apq === 0) continue;
        const theta = (a[q * d + q]! - a[p * d + p]!) / (2 * apq);
        const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < d; k++) {
          const [x, y] = [a[k * d + p]!, a[k * d + q]!];
          a[k * d + p] = c * x - s * y;
          a[k * d + q] = s * x + c * y;
        }
        for (let k = 0; k < d; k++) {
          const [x, y] = [a[p * d + k]!, a[q * d + k]!];
          a[p * d + k] = c * x - s * y;
          a[q * d + k] = s * x + c * y;
        }
        for (let k = 0; k < d; k++) {
          const [x, y] = [vectors[k * d + p]!, vectors[k * d + q]!];
          vectors[k * d + p] = c * x - s * y;
          vectors[k * d + q] = s * x + c * y;
        }
      }
    }
  }
  return { values: Float64Array.from({ length: d }, (_, i) => a[i * d + i]!), vectors };
}

function product(a: Float64Array, b: Float64Array, d: number): Float64Array {
  const c = new Float64Array(d * d);
  for (let i = 0; i < d; i++)
    for (let k = 0; k < d; k++) for (let j = 0; j < d; j++) c[i * d + j]! += a[i * d + k]! * b[k * d + j]!;
  return c;
}

/** ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½) */
export function frechetDistance(one: Gaussian, two: Gaussian): number {
  const d = one.mean.length;
  const { values, vectors } = eigen(one.covariance, d);
  const root = new Float64Array(d * d);
  for (let i = 0; i < d; i++)
    for (let j = 0; j < d; j++)
      for (let k = 0; k < d; k++)
        root[i * d + j]! += vectors[i * d + k]! * Math.sqrt(Math.max(0, values[k]!)) * vectors[j * d + k]!;
  const inner = eigen(product(product(root, two.covariance, d), root, d), d).values;
  let distance = 0;
  for (let i = 0; i < d; i++) {
    distance += (one.mean[i]! - two.mean[i]!) ** 2 + one.covariance[i * d + i]! + two.covariance[i * d + i]!;
    distance -= 2 * Math.sqrt(Math.max(0, inner[i]!));
  }
  return Math.max(0, distance);
}

/** 100 · distance / trace of the real features' covariance. Features are [n, d]. */
export function frechetPercent(samples: Float64Array, real: Float64Array, d: number): number {
  const reference = fit(real, d);
  let trace = 0;
  for (let i = 0; i < d; i++) trace += reference.covariance[i * d + i]!;
  return (100 * frechetDistance(fit(samples, d), reference)) / trace;
}
