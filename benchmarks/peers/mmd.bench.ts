// The maximum mean discrepancy with its gradient beside PyTorch, by its own distances and by differences composed by hand, and
// beside JAX, where differences are the only way.
import { ones, randn, tidy } from '../../lib';
import { mmdVjp } from '../../lib/ops/mmd';
import { inJax, inPyTorch, type Peers } from '../baselines/peers';
import type { Group } from '../cpu';

const name = 'value and gradient of x';

const sizes: readonly (readonly [groups: number, particles: number, dim: number])[] = [
  [512, 4, 4096],
  [512, 16, 4096],
  [8, 4, 784], // a batch of digits
];

/** With 16 particles the intermediates of an eager difference, of 2 GiB each, take seconds a run. */
const eagerDifferences = 4;

export async function* groups(peers: Peers, shapes = sizes): AsyncIterable<Group> {
  for (const [count, particles, dim] of shapes) {
    const shape = [count, particles, dim];
    const x = randn(shape);
    // Nearer than this, the sums of PyTorch's float32 values cancel to less than the digits to be compared.
    const y = tidy(() => randn(shape).mul(0.1).add(x));
    const weight = ones([count]);
    const inputs = new Map(Object.entries({ x, y, weight }));
    const run = () => mmdVjp(x, y, null, { kernel: 'laplace', weight }, [true, false]);
    const [value, gx] = run();
    const ours = new Map(Object.entries({ value, gx: gx! }));
    const bytes = 3 * 4 * count * particles * dim;
    const rows = [
      ...inPyTorch('mmd', {}, 'cdist'),
      ...inPyTorch('mmd', { byHand: true }, 'differences composed by hand').filter(
        ({ peer }) => peer !== 'PyTorch' || particles <= eagerDifferences,
      ),
      inJax('mmd'),
    ];
    yield {
      title: `${count} groups of ${particles} + ${particles} particles of ${dim} float32`,
      subjects: [{ name, run, bytes }, ...(await peers.python({ peerOf: name, bytes }, rows, inputs, ours))],
      done: () => peers.clear(),
    };
  }
}
