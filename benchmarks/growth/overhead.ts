// What a call from JavaScript costs where the work is next to nothing: adding two tensors of a few elements. All times are of
// one addition; results are freed within them, as a loop of one's own has to.
import { add, jvp, synchronizeSync, type Tensor, tidy, vjp } from '../../lib';
import type { Subject } from '../support/measure';

/** Additions of one chain, and of one scope of single calls. */
export const chainLength = 100;

/** Elements of each operand. */
export const operandSizes = [1, 16] as const;

/**
 * A subject of `count` operations a block, whose time is that of one.
 * @param after follows each block, off the clock
 */
export function perOperation(
  name: string,
  count: number,
  block: () => unknown,
  rest: { after?: () => unknown; peerOf?: string; difference?: number } = {},
): Subject {
  const { after, ...about } = rest;
  const time = async (repeats: number): Promise<number> => {
    const blocks = Math.ceil(repeats / count);
    let nanoseconds = 0n;
    for (let i = 0; i < blocks; i++) {
      const start = process.hrtime.bigint();
      const pending = block();
      if (pending instanceof Promise) await pending;
      nanoseconds += process.hrtime.bigint() - start;
      after?.();
    }
    return Number(nanoseconds) / 1e9 / (blocks * count);
  };
  return { name, time, ...about };
}

/** `x` with `b` added over and over. */
export function chain(x: Tensor, b: Tensor): Tensor {
  let sum = x;
  for (let i = 0; i < chainLength; i++) sum = add(sum, b);
  return sum;
}

export const names = {
  queued: 'add, queued',
  read: 'add, then read',
  chain: `add in a chain of ${chainLength}, then read`,
  backward: `add in a chain of ${chainLength}, its tape and its backward`,
  tangent: `add in a chain of ${chainLength} with tangents, then read`,
} as const;

/** @param a of a few elements, like `b` */
export function overheadSubjects(a: Tensor, b: Tensor): Subject[] {
  const single = (work: () => unknown) => () => {
    for (let i = 0; i < chainLength; i++) {
      tidy(() => {
        work();
      });
    }
  };
  const whole = (work: () => unknown) => () =>
    tidy(() => {
      work();
    });
  const off = () => synchronizeSync();
  return [
    perOperation(
      names.queued,
      chainLength,
      single(() => add(a, b)),
      { after: off },
    ),
    perOperation(
      'add, then synchronise',
      chainLength,
      single(() => {
        add(a, b);
        synchronizeSync();
      }),
    ),
    perOperation(
      names.read,
      chainLength,
      single(() => (a.size === 1 ? add(a, b).itemSync() : add(a, b).dataSync())),
    ),
    perOperation(
      names.chain,
      chainLength,
      whole(() => chain(a, b).dataSync()),
    ),
    perOperation(
      `add in a chain of ${chainLength}, recorded on a tape`,
      chainLength,
      whole(() => {
        const [, pullback] = vjp((x: Tensor) => chain(x, b), [a]);
        pullback.dispose();
      }),
      { after: off },
    ),
    perOperation(
      names.backward,
      chainLength,
      whole(() => {
        const [, pullback] = vjp((x: Tensor) => chain(x, b), [a]);
        (pullback(b) as [Tensor])[0].dataSync();
        pullback.dispose();
      }),
    ),
    perOperation(
      names.tangent,
      chainLength,
      whole(() => jvp((x: Tensor) => chain(x, b), [a], [b])[1].dataSync()),
    ),
  ];
}
