// What every optimiser must do: go on from a saved state as if it had never stopped.
import { copyInto, type Tensor } from '../../lib';

type Named = Map<string, Tensor>;

interface Optimizer {
  update(grads: Named): unknown;
  stateDict(): { tensors: Map<string, Tensor>; step: number };
  loadStateDict(state: { tensors: Map<string, Tensor>; step: number }): void;
}

/** Saves after `before` steps, takes `after` more in both, and compares parameters and states bit by bit. */
export function expectSameBitsAfterLoading(
  make: (params: Named) => Optimizer,
  tensor: (data: number[]) => Tensor,
  { before, after }: { before: number; after: number },
): void {
  const params = () => new Map([['w', tensor([1, 2, 3])]]);
  const grads = (k: number) => new Map([['w', tensor([Math.sin(k), 1, -k])]]);
  const [a, b] = [params(), params()];
  const first = make(a);
  for (let k = 0; k < before; k++) first.update(grads(k));
  const second = make(b);
  second.loadStateDict(first.stateDict());
  copyInto(b.get('w')!, a.get('w')!);
  for (let k = before; k < before + after; k++) {
    first.update(grads(k));
    second.update(grads(k));
  }
  expect([...b.get('w')!.dataSync()]).toEqual([...a.get('w')!.dataSync()]);
  const [one, other] = [first.stateDict(), second.stateDict()];
  expect(other.step).toBe(one.step);
  for (const [name, moment] of one.tensors) {
    expect([...other.tensors.get(name)!.dataSync()]).toEqual([...moment.dataSync()]);
  }
}
