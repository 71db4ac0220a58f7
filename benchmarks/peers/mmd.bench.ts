// The maximum mean discrepancy with its gradient beside PyTorch, by its own distances and by differences composed by hand.
import { ones, randn, tidy } from '../../lib';
import { mmdVjp } from '../../lib/ops/mmd';
import type { Peers } from '../baselines/peers';
import type { Group } from '../cpu';

const name = 'value and gradient of x';

export async function* groups(peers: Peers): AsyncIterable<Group> {
  for (const [count, particles, dim] of [
    [512, 4, 4096],
    [512, 16, 4096],
    [8, 4, 784], // a batch of digits
  ] as const) {
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
    const peer = (by: string, options: object) =>
      peers.pytorchSubject({ name: `  PyTorch, ${by}`, peerOf: name, bytes }, ['mmd', options], inputs, ours);
    yield {
      title: `${count} groups of ${particles} + ${particles} particles of ${dim} float32`,
      subjects: [
        { name, run, bytes },
        ...(await peer('cdist', {})),
        // With 16 particles its intermediates, of 2 GiB each, take seconds a run.
        ...(particles <= 4 ? await peer('differences composed by hand', { byHand: true }) : []),
      ],
      done: () => peers.clear(),
    };
  }
}
