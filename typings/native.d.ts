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
  matmul(a: Handle, b: Handle, transposeA: boolean, transposeB: boolean): Handle;
  linear(x: Handle, weight: Handle, bias: Optional): Handle;
  linearJvp(
    x: Handle,
    weight: Handle,
    bias: Optional,
    tx: Optional,
    tweight: Optional,
    tbias: Optional,
  ): [y: Handle, ty: Handle];
  linearJvpVjp(
    x: Handle,
    weight: Handle,
    tx: Optional,
    tweight: Optional,
    g: Optional,
    h: Optional,
    needX: boolean,
    needWeight: boolean,
    needBias: boolean,
    needTx: boolean,
    needTweight: boolean,
    needTbias: boolean,
  ): [gx: Optional, gweight: Optional, gbias: Optional, gtx: Optional, gtweight: Optional, gtbias: Optional];

  // norm

  // activation

  // attention

  // random
  randomUniform(
    device: string,
    shape: readonly number[],
    dtype: DType,
    seed: number,
    offset: number,
    low: number,
    high: number,
  ): Handle;
  randomNormal(device: string, shape: readonly number[], dtype: DType, seed: number, offset: number): Handle;
  randomIntegers(device: string, shape: readonly number[], seed: number, offset: number, low: number, high: number): Handle;
  randomPermutation(device: string, n: number, seed: number, offset: number): Handle;
  randomBlocks(n: number, dtype: DType): number;
  hostUniform(seed: number, offset: number, n: number): number[];
  hostNormal(seed: number, offset: number, n: number): number[];

  // optim: in place
  adamwStep(
    params: readonly Handle[],
    grads: readonly Handle[],
    m: readonly Handle[],
    v: readonly Handle[],
    masters: readonly Handle[],
    gradScale: Optional,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    step: number,
  ): void;
  emaUpdate(averages: readonly Handle[], params: readonly Handle[], decay: number): void;
  globalNorm(tensors: readonly Handle[]): Handle;
  clipScale(norm: Handle, maxNorm: number): Handle;
  copyInto(target: Handle, source: Handle): void;

  // gather
}
