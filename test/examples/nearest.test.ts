// The digits example's look for memorised images, against a direct search and a network that does memorise.
import { closeness, nearest, quantile } from '../../examples/digits/nearest';
import { sample } from '../support/checkOp';

const area = 784;
const images = (count: number, seed: number) =>
  Float32Array.from(Array.from(sample([count, area], seed, { low: 0, high: 1 }).values));
const labels = Int32Array.from({ length: 60 }, (_, i) => i % 10);

describe('the nearest image', () => {
  it('is the one a direct search finds, beyond one chunk too', () => {
    const [some, others] = [images(260, 1), images(70, 2)];
    const found = nearest(some, others);
    for (let i = 0; i < 260; i += 37) {
      const distances = Float64Array.from({ length: 70 }, (_, j) => {
        let sum = 0;
        for (let p = 0; p < area; p++) sum += (some[i * area + p]! - others[j * area + p]!) ** 2;
        return Math.sqrt(sum);
      });
      expect(found.distances[i]).toBeCloseTo(Math.min(...distances), 10);
      expect(distances[found.rows[i]!]).toBeCloseTo(Math.min(...distances), 10);
    }
  });

  it('gives away a network that draws training images again', () => {
    const [training, heldOut] = [images(200, 3), images(60, 4)];
    const again = closeness(training.slice(0, 60 * area), labels, training, heldOut);
    expect(again.samples).toEqual({ least: 0, low: 0, median: 0, high: 0 });
    expect(again.heldOut.least).toBeGreaterThan(1);
    expect(again.nearerToTraining).toBe(1);
    // Sample, line, training image: here the same twice.
    for (let place = 0; place < 50; place++) {
      const row = again.first.subarray((place * 28 + 9) * 57, (place * 28 + 10) * 57);
      expect(row.subarray(0, 28)).toEqual(row.subarray(29));
    }
  });

  it('lies by its quantiles', () => {
    const distances = Float64Array.of(5, 1, 4, 2, 3);
    expect([0, 0.5, 1].map((share) => quantile(distances, share))).toEqual([1, 3, 5]);
  });
});
