// Groups of the maximum mean discrepancy that no block has room for and a cluster has, by the shared memory of a block.
import { type Case, type Particles, particles } from '../../support/mmdOracle';
import type { FloatingDType } from '../../support/tolerances';

export interface ClusterCase {
  title: string;
  dtype: FloatingDType;
  given: Particles;
  options: Case;
}

const make = (
  title: string,
  dtype: FloatingDType,
  shape: Particles['shape'],
  options: Case,
  apart?: number,
): ClusterCase => ({
  title: `${shape[0]} groups of ${shape[1]} + ${shape[2]} of ${shape[3]} ${dtype}, ${title}`,
  dtype,
  given: particles(shape, shape[3], apart),
  options,
});

export const clusterCases = {
  // 227 KB, as on sm_90.
  large: () => [
    make('2 blocks', 'float32', [2, 4, 4, 9001], { kernel: 'laplace', weight: [2, 30], lossWeight: [1, -0.5] }, 1e-3),
    make('4 blocks', 'bfloat16', [1, 2, 2, 70001], { kernel: 'rbf', bandwidths: [0.2, 1] }),
    make('8 blocks', 'float16', [1, 1, 1, 240003], { kernel: 'energy' }),
    make('8 blocks', 'float64', [2, 3, 5, 15001], { kernel: 'imq', unbiased: true }),
  ],
  // 99 KB, as on sm_120.
  small: () => [
    make('2 blocks', 'float32', [3, 4, 4, 4096], { kernel: 'laplace' }, 1e-3),
    make('2 blocks, more groups than run at once', 'float32', [7, 1, 1, 13001], { kernel: 'imq' }),
    make('2 blocks', 'float64', [1, 4, 4, 1603], { kernel: 'energy', lossWeight: [3] }),
    make('2 blocks', 'bfloat16', [2, 4, 4, 8200], { kernel: 'rbf', unbiased: true, weight: [1, 0.5] }),
    make('4 blocks', 'float32', [1, 17, 9, 2501], { kernel: 'laplace' }),
    make('4 blocks, in double', 'float32', [1, 24, 24, 601], { kernel: 'rbf' }),
    make('8 blocks', 'float16', [1, 2, 2, 60001], { kernel: 'laplace', bandwidths: [0.3, 2] }),
  ],
};
