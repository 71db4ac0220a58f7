// Time as a device itself sees it, for benchmarks; not part of the package's interface.
import { defineOp } from './autograd/op';
import { native } from './native';
import type { Tensor } from './tensor';

/** @internal A point in a device's work. */
export type DeviceEvent = number;

/** @internal When all that was enqueued on `device` before has ended: on CUDA an event, on the CPU a reading of the clock. */
export const recordEvent = (device: string): DeviceEvent => native.recordEvent(device);

/**
 * @internal Seconds from each event of `from` to that at its place in `to`, all of one device. Waits for them, throws what
 * failed meanwhile, and uses them up.
 */
export const elapsedSeconds = (from: readonly DeviceEvent[], to: readonly DeviceEvent[]): number[] =>
  native.elapsedSeconds(from, to);

const vendorCopyOp = defineOp('vendorCopy', { forward: ([x]) => native.vendorCopy(x!), constant: true });

/** @internal A copy of `x` by what the device comes with (CUDA's copy, the C library's), beside which kernels are measured. */
export const vendorCopy = (x: Tensor): Tensor => vendorCopyOp([x], undefined)[0]!;
