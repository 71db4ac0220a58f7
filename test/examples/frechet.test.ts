// The metric of the digits example, against closed forms.
import { eigen, fit, frechetDistance, frechetPercent } from '../../examples/digits/frechet';

const gaussian = (mean: number[], variances: number[]) => ({
  mean: Float64Array.from(mean),
  covariance: Float64Array.from(mean.flatMap((_, i) => mean.map((__, j) => (i === j ? variances[i]! : 0)))),
});

describe('the Frechet distance', () => {
  it('is zero between a set and itself', () => {
    const rows = Float64Array.from({ length: 300 }, (_, i) => Math.sin(i * i));
    expect(frechetPercent(rows, rows, 3)).toBeLessThan(1e-5);
  });

  it('is the closed form between Gaussians whose axes agree', () => {
    const [one, two] = [gaussian([1, 2, 3], [4, 9, 1]), gaussian([1, 0, 4], [1, 1, 16])];
    expect(frechetDistance(one, two)).toBeCloseTo(4 + 1 + 1 + 4 + 9, 10);
  });

  it('rests on means, covariances and eigenvalues that are right', () => {
    const { mean, covariance } = fit(Float64Array.of(0, 0, 2, 2, 4, 1), 2);
    expect([...mean]).toEqual([2, 1]);
    expect([...covariance].map((v) => +v.toFixed(12))).toEqual([4, 1, 1, 1]);
    expect([...eigen(Float64Array.of(2, 1, 1, 2), 2).values].sort()).toEqual([
      expect.closeTo(1, 12),
      expect.closeTo(3, 12),
    ]);
  });
});
