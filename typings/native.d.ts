// The addon as TypeScript sees it: one line per function, as bound in csrc/binding. A tensor is its handle, a number.
import type { DType } from '../lib/dtype';

export type Handle = number;
export type Optional = Handle | null;

/** One frozen object for all tensors that are alike. */
export interface TensorInformation {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: string;
}

/** What was found of CUDA. `reason`: why the library could not be opened; `why`: why it sees no device; else empty. */
export interface CudaReport {
  path: string;
  reason: string;
  emulated: boolean;
  targets?: string;
  toolkit?: number;
  driver?: number;
  why?: string;
  devices: { name: string; memoryBytes: number; l2Bytes: number; major: number; minor: number }[];
}

export interface NativeAddon {
  setErrorFactory(factory: (code: never, op: string, detail: string) => Error): void;

  // transfer
  fromBytes(bytes: ArrayBufferView | ArrayBuffer, shape: readonly number[], dtype: DType, device: string): Handle;
  read(x: Handle): Promise<ArrayBuffer>;
  readSync(x: Handle): ArrayBuffer;
  info(x: Handle): TensorInformation;
  dispose(x: Handle): boolean;
  disposeAll(handles: Float64Array, count: number): void;
  share(x: Handle): Handle;
  /** Disposes of the handle after the collector has found the object. */
  watch(tensor: object, handle: Handle): void;

  // features
  features(): [oneDnn: string, highway: string, simd: string, bfloat16: boolean];
  cuda(): CudaReport;
  cublas(): [path: string, version: string, reason: string];
  stopDevicesForExit(): void;
  threads(): number;
  setThreads(n: number): void;

  // memory
  memory(device: string): [tensors: number, bytes: number, peakBytes: number, cachedBytes: number, limitBytes: number];
  synchronize(device: string): Promise<ArrayBuffer>;
  synchronizeSync(device: string): void;
  emptyCache(device: string): void;
  resetPeakMemory(device: string): void;
  setMemoryLimit(device: string, bytes: number): void;

  // events, by number; `elapsedSeconds` waits for them and uses them up
  recordEvent(device: string): number;
  elapsedSeconds(from: readonly number[], to: readonly number[]): number[];
  vendorCopy(x: Handle): Handle;

  checkFinite(x: Handle, what: string): Handle;

  // fill
  full(device: string, shape: readonly number[], dtype: DType, value: number): Handle;
  arange(device: string, start: number, stop: number, step: number, dtype: DType): Handle;
  eye(device: string, rows: number, columns: number, dtype: DType): Handle;

  // elementwise
  neg(x: Handle): Handle;
  abs(x: Handle): Handle;
  sign(x: Handle): Handle;
  square(x: Handle): Handle;
  sqrt(x: Handle): Handle;
  rsqrt(x: Handle): Handle;
  reciprocal(x: Handle): Handle;
  exp(x: Handle): Handle;
  expm1(x: Handle): Handle;
  log(x: Handle): Handle;
  log1p(x: Handle): Handle;
  sin(x: Handle): Handle;
  cos(x: Handle): Handle;
  tanh(x: Handle): Handle;
  sigmoid(x: Handle): Handle;
  floor(x: Handle): Handle;
  logicalNot(x: Handle): Handle;
  add(a: Handle, b: Handle): Handle;
  addScalar(a: Handle, b: number): Handle;
  sub(a: Handle, b: Handle): Handle;
  subScalar(a: Handle, b: number): Handle;
  scalarSub(a: number, b: Handle): Handle;
  mul(a: Handle, b: Handle): Handle;
  mulScalar(a: Handle, b: number): Handle;
  div(a: Handle, b: Handle): Handle;
  divScalar(a: Handle, b: number): Handle;
  scalarDiv(a: number, b: Handle): Handle;
  pow(a: Handle, b: Handle): Handle;
  powScalar(a: Handle, b: number): Handle;
  scalarPow(a: number, b: Handle): Handle;
  maximum(a: Handle, b: Handle): Handle;
  maximumScalar(a: Handle, b: number): Handle;
  minimum(a: Handle, b: Handle): Handle;
  minimumScalar(a: Handle, b: number): Handle;
  equal(a: Handle, b: Handle): Handle;
  equalScalar(a: Handle, b: number): Handle;
  notEqual(a: Handle, b: Handle): Handle;
  notEqualScalar(a: Handle, b: number): Handle;
  less(a: Handle, b: Handle): Handle;
  lessScalar(a: Handle, b: number): Handle;
  lessEqual(a: Handle, b: Handle): Handle;
  lessEqualScalar(a: Handle, b: number): Handle;
  greater(a: Handle, b: Handle): Handle;
  greaterScalar(a: Handle, b: number): Handle;
  greaterEqual(a: Handle, b: Handle): Handle;
  greaterEqualScalar(a: Handle, b: number): Handle;
  where(condition: Handle, a: Optional, b: Optional, aValue: number, bValue: number): Handle;
  clamp(x: Handle, low: number, high: number): Handle;
  cast(x: Handle, dtype: DType): Handle;
  toDevice(x: Handle, device: string): Handle;

  // reduce
  sum(x: Handle, axes: readonly number[], keepDims: boolean): Handle;
  mean(x: Handle, axes: readonly number[], keepDims: boolean): Handle;
  max(x: Handle, axes: readonly number[], keepDims: boolean): Handle;
  min(x: Handle, axes: readonly number[], keepDims: boolean): Handle;
  any(x: Handle, axes: readonly number[], keepDims: boolean): Handle;
  all(x: Handle, axes: readonly number[], keepDims: boolean): Handle;
  argmax(x: Handle, axis: number, keepDims: boolean): Handle;
  argmin(x: Handle, axis: number, keepDims: boolean): Handle;
  sumTo(x: Handle, shape: readonly number[]): Handle;

  // shape
  reshape(x: Handle, shape: readonly number[]): Handle;
  copy(x: Handle): Handle;
  permute(x: Handle, axes: readonly number[]): Handle;
  slice(x: Handle, begin: readonly number[], end: readonly number[], step: readonly number[]): Handle;
  sliceVjp(g: Handle, shape: readonly number[], begin: readonly number[], step: readonly number[]): Handle;
  split(x: Handle, sizes: readonly number[], axis: number): Handle[];
  concat(tensors: readonly Handle[], axis: number): Handle;
  pad(x: Handle, before: readonly number[], after: readonly number[], value: number): Handle;
  broadcastTo(x: Handle, shape: readonly number[]): Handle;
  flip(x: Handle, axes: readonly number[]): Handle;

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
  allowTf32(device: string, allowed: boolean): void;

  // norm
  rmsNorm(x: Handle, weight: Optional, eps: number): Handle;
  rmsNormJvp(x: Handle, weight: Optional, tx: Optional, tweight: Optional, eps: number): [y: Handle, ty: Handle];
  rmsNormJvpVjp(
    x: Handle,
    weight: Optional,
    tx: Optional,
    tweight: Optional,
    g: Optional,
    h: Optional,
    eps: number,
    needX: boolean,
    needWeight: boolean,
    needTx: boolean,
    needTweight: boolean,
  ): [gx: Optional, gweight: Optional, gtx: Optional, gtweight: Optional];
  rmsNormModulate(x: Handle, shift: Handle, scale: Handle, eps: number): Handle;
  rmsNormModulateJvp(
    x: Handle,
    shift: Handle,
    scale: Handle,
    tx: Optional,
    tshift: Optional,
    tscale: Optional,
    eps: number,
  ): [y: Handle, ty: Handle];
  rmsNormModulateJvpVjp(
    x: Handle,
    scale: Handle,
    tx: Optional,
    tscale: Optional,
    g: Optional,
    h: Optional,
    eps: number,
    needX: boolean,
    needShift: boolean,
    needScale: boolean,
    needTx: boolean,
    needTshift: boolean,
    needTscale: boolean,
  ): [gx: Optional, gshift: Optional, gscale: Optional, gtx: Optional, gtshift: Optional, gtscale: Optional];
  layerNorm(x: Handle, weight: Optional, bias: Optional, eps: number): Handle;
  layerNormJvp(
    x: Handle,
    weight: Optional,
    bias: Optional,
    tx: Optional,
    tweight: Optional,
    tbias: Optional,
    eps: number,
  ): [y: Handle, ty: Handle];
  layerNormJvpVjp(
    x: Handle,
    weight: Optional,
    tx: Optional,
    tweight: Optional,
    g: Optional,
    h: Optional,
    eps: number,
    needX: boolean,
    needWeight: boolean,
    needBias: boolean,
    needTx: boolean,
    needTweight: boolean,
    needTbias: boolean,
  ): [gx: Optional, gweight: Optional, gbias: Optional, gtx: Optional, gtweight: Optional, gtbias: Optional];
  layerNormModulate(x: Handle, shift: Handle, scale: Handle, eps: number): Handle;
  layerNormModulateJvp(
    x: Handle,
    shift: Handle,
    scale: Handle,
    tx: Optional,
    tshift: Optional,
    tscale: Optional,
    eps: number,
  ): [y: Handle, ty: Handle];
  layerNormModulateJvpVjp(
    x: Handle,
    scale: Handle,
    tx: Optional,
    tscale: Optional,
    g: Optional,
    h: Optional,
    eps: number,
    needX: boolean,
    needShift: boolean,
    needScale: boolean,
    needTx: boolean,
    needTshift: boolean,
    needTscale: boolean,
  ): [gx: Optional, gshift: Optional, gscale: Optional, gtx: Optional, gtshift: Optional, gtscale: Optional];
  gatedResidual(x: Handle, gate: Handle, z: Handle): Handle;
  gatedResidualJvp(
    x: Handle,
    gate: Handle,
    z: Handle,
    tx: Optional,
    tgate: Optional,
    tz: Optional,
  ): [y: Handle, ty: Handle];
  gatedResidualJvpVjp(
    gate: Handle,
    z: Handle,
    tgate: Optional,
    tz: Optional,
    g: Optional,
    h: Optional,
    needGate: boolean,
    needZ: boolean,
    needTgate: boolean,
    needTz: boolean,
  ): [ggate: Optional, gz: Optional, gtgate: Optional, gtz: Optional];
  splitQkv(
    qkv: Handle,
    qWeight: Optional,
    kWeight: Optional,
    heads: number,
    normalize: boolean,
    eps: number,
  ): [q: Handle, k: Handle, v: Handle];
  splitQkvJvp(
    qkv: Handle,
    qWeight: Optional,
    kWeight: Optional,
    tqkv: Optional,
    tqWeight: Optional,
    tkWeight: Optional,
    heads: number,
    normalize: boolean,
    eps: number,
  ): [q: Handle, k: Handle, v: Handle, tq: Optional, tk: Optional, tv: Optional];
  splitQkvJvpVjp(
    qkv: Handle,
    qWeight: Optional,
    kWeight: Optional,
    tqkv: Optional,
    tqWeight: Optional,
    tkWeight: Optional,
    cotangents: readonly Optional[],
    heads: number,
    normalize: boolean,
    eps: number,
    needs: readonly number[],
  ): [
    gqkv: Optional,
    gqWeight: Optional,
    gkWeight: Optional,
    gtqkv: Optional,
    gtqWeight: Optional,
    gtkWeight: Optional,
  ];
  softmax(x: Handle): Handle;

  // activation
  gelu(x: Handle): Handle;
  geluJvp(x: Handle, tx: Handle): [y: Handle, ty: Handle];
  geluJvpVjp(
    x: Handle,
    tx: Optional,
    g: Optional,
    h: Optional,
    needX: boolean,
    needTx: boolean,
  ): [gx: Optional, gtx: Optional];
  silu(x: Handle): Handle;
  siluJvp(x: Handle, tx: Handle): [y: Handle, ty: Handle];
  siluJvpVjp(
    x: Handle,
    tx: Optional,
    g: Optional,
    h: Optional,
    needX: boolean,
    needTx: boolean,
  ): [gx: Optional, gtx: Optional];

  // attention: weights are qWeight and kWeight; sequences are keyLengths, queryOffsets and keyOffsets
  attention(
    q: Handle,
    k: Handle,
    v: Handle,
    weights: readonly Optional[],
    sequences: readonly Optional[],
    layout: string,
    causal: boolean,
    scale: number,
    normalize: boolean,
    eps: number,
    centerKeys: boolean,
  ): [o: Handle, lse: Handle];
  attentionJvp(
    q: Handle,
    k: Handle,
    v: Handle,
    tq: Optional,
    tk: Optional,
    tv: Optional,
    weights: readonly Optional[],
    sequences: readonly Optional[],
    layout: string,
    causal: boolean,
    scale: number,
    normalize: boolean,
    eps: number,
    centerKeys: boolean,
  ): [o: Handle, to: Handle, lse: Handle, mu: Handle];
  attentionJvpVjp(
    q: Handle,
    k: Handle,
    v: Handle,
    tq: Optional,
    tk: Optional,
    tv: Optional,
    o: Handle,
    to: Optional,
    lse: Handle,
    mu: Optional,
    g: Optional,
    h: Optional,
    weights: readonly Optional[],
    sequences: readonly Optional[],
    layout: string,
    causal: boolean,
    scale: number,
    normalize: boolean,
    eps: number,
    centerKeys: boolean,
    deterministic: boolean,
    needs: readonly number[],
  ): [
    gq: Optional,
    gk: Optional,
    gv: Optional,
    gtq: Optional,
    gtk: Optional,
    gtv: Optional,
    gqWeight: Optional,
    gkWeight: Optional,
  ];

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
  randomIntegers(
    device: string,
    shape: readonly number[],
    seed: number,
    offset: number,
    low: number,
    high: number,
  ): Handle;
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
  radamStep(
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
    decoupled: boolean,
    step: number,
  ): void;
  emaUpdate(averages: readonly Handle[], params: readonly Handle[], decay: number): void;
  globalNorm(tensors: readonly Handle[]): Handle;
  clipScale(norm: Handle, maxNorm: number): Handle;
  copyInto(target: Handle, source: Handle): void;

  // gather
  take(x: Handle, indices: Handle, axis: number): Handle;
  takeVjp(g: Handle, indices: Handle, shape: readonly number[], axis: number): Handle;
  oneHot(indices: Handle, depth: number, dtype: DType): Handle;

  // mmd
  mmd(
    x: Handle,
    y: Handle,
    weight: Optional,
    lossWeight: Optional,
    kernel: string,
    bandwidths: readonly number[],
    eps: number,
    unbiased: boolean,
  ): Handle;
  mmdJvp(
    x: Handle,
    y: Handle,
    weight: Optional,
    lossWeight: Optional,
    tx: Optional,
    ty: Optional,
    kernel: string,
    bandwidths: readonly number[],
    eps: number,
    unbiased: boolean,
  ): [value: Handle, tangent: Handle];
  mmdVjp(
    x: Handle,
    y: Handle,
    weight: Optional,
    lossWeight: Optional,
    g: Optional,
    kernel: string,
    bandwidths: readonly number[],
    eps: number,
    unbiased: boolean,
    needX: boolean,
    needY: boolean,
  ): [value: Handle, gx: Optional, gy: Optional];

  // graph
  graphDevice(device: string): string;
  /** Begins to record; the number names the recording, the handles are its inputs. */
  graphBegin(device: string, examples: readonly Handle[]): [recording: number, ...inputs: Handle[]];
  graphEnd(recording: number, outputs: readonly Handle[]): void;
  graphReplay(recording: number, inputs: readonly Handle[], numbers: readonly number[]): Handle[];
  /** Undone where it has not ended. */
  graphDispose(recording: number): void;
  /** Disposes of the recording after the collector has found the object. */
  graphWatch(step: object, recording: number): void;
}
