// The addon as TypeScript sees it: one line per function, as bound in csrc/binding. A tensor is its handle, a number.
import type { DType } from '../lib/dtype';

export type Handle = number;
export type Optional = Handle | null;

export interface NativeAddon {
  setErrorFactory(factory: (code: never, op: string, detail: string) => Error): void;

  // transfer
  fromBytes(bytes: ArrayBufferView | ArrayBuffer, shape: readonly number[], dtype: DType, device: string): Handle;
  read(x: Handle): Promise<ArrayBuffer>;
  readSync(x: Handle): ArrayBuffer;
  info(x: Handle): [dtype: DType, device: string, ...shape: number[]];
  dispose(x: Handle): boolean;
  share(x: Handle): Handle;

  // memory
  memory(device: string): [tensors: number, bytes: number, peakBytes: number, cachedBytes: number, limitBytes: number];
  synchronize(device: string): Promise<ArrayBuffer>;
  synchronizeSync(device: string): void;
  emptyCache(device: string): void;
  resetPeakMemory(device: string): void;
  setMemoryLimit(device: string, bytes: number): void;

  // fill
  full(device: string, shape: readonly number[], dtype: DType, value: number): Handle;

  // elementwise
  neg(x: Handle): Handle;
  abs(x: Handle): Handle;
  exp(x: Handle): Handle;
  log(x: Handle): Handle;
  sin(x: Handle): Handle;
  cos(x: Handle): Handle;
  tanh(x: Handle): Handle;
  sqrt(x: Handle): Handle;
  add(a: Handle, b: Handle): Handle;
  sub(a: Handle, b: Handle): Handle;
  mul(a: Handle, b: Handle): Handle;
  div(a: Handle, b: Handle): Handle;
  cast(x: Handle, dtype: DType): Handle;

  // reduce

  // shape

  // matmul

  // norm

  // activation

  // attention

  // random

  // optim

  // gather
}
