// The tensor handle: what every operation takes and gives. Methods are added beside the operations they call (lib/ops).

import type { TensorInformation } from '../typings/native';
import type { Traced } from './autograd/trace';
import type { DType, TypedArray } from './dtype';
import { DisposedError, ShapeError } from './errors';
import { track } from './memory';
import { native } from './native';

const kept = 1;
const orphan = 2;
const disposed = 4;
const watched = 8;

/**
 * A contiguous, row-major array on a device. Operations return at once and run in order on the device; reading waits.
 * Made by {@link tensor}, {@link zeros}, ... and by operations; freed by `dispose()`, `using` or {@link tidy}.
 */
export class Tensor {
  /** @internal Native handle; -1 for a traced tensor, whose values live in its primal. */
  readonly _handle: number;
  /** @internal What a gradient or a derivative in progress knows about this tensor. */
  readonly _traced: Traced | null;
  private flags = 0;
  private retains = 0;
  private information: TensorInformation | null = null;

  /**
   * @internal
   * @param like a tensor of the same shape, dtype and device, where one is known: looking them up costs as much as a small op
   */
  constructor(handle: number, traced: Traced | null = null, like: Tensor | null = null) {
    this._handle = handle;
    this._traced = traced;
    if (like !== null) this.information = like.info;
    if (traced === null && !track(this)) this._watch();
  }

  private get info(): TensorInformation {
    if (this.information === null) {
      this.information = this._traced ? this._traced.primal.info : native.info(this._handle);
    }
    return this.information;
  }

  /** Sizes, outermost first. */
  get shape(): readonly number[] {
    return this.info.shape;
  }

  get rank(): number {
    return this.info.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return this.info.shape.reduce((product, size) => product * size, 1);
  }

  get dtype(): DType {
    return this.info.dtype;
  }

  /** 'cpu', 'cuda' or 'cuda:N'. */
  get device(): string {
    return this.info.device;
  }

  get disposed(): boolean {
    return this._traced ? this._traced.primal.disposed : (this.flags & disposed) !== 0;
  }

  /** The values, row-major, once the device has computed them. 16-bit floats come as float32, bool as 0 and 1. */
  async data(): Promise<TypedArray> {
    const owner = this._primal();
    owner.assertLive('data');
    const { dtype } = owner;
    if (dtype !== 'bfloat16' && dtype !== 'float16') return asTyped(await native.read(owner._handle), dtype);
    const wide = native.cast(owner._handle, 'float32');
    try {
      return new Float32Array(await native.read(wide));
    } finally {
      native.dispose(wide);
    }
  }

  /** Like {@link data}, but blocks the JavaScript thread until the device is done. */
  dataSync(): TypedArray {
    const owner = this._primal();
    owner.assertLive('dataSync');
    const { dtype } = owner;
    if (dtype !== 'bfloat16' && dtype !== 'float16') return asTyped(native.readSync(owner._handle), dtype);
    const wide = native.cast(owner._handle, 'float32');
    try {
      return new Float32Array(native.readSync(wide));
    } finally {
      native.dispose(wide);
    }
  }

  /** The stored bytes, row-major, without conversion: 2 bytes an element for 16-bit floats. */
  async bytes(): Promise<Uint8Array> {
    const owner = this._primal();
    owner.assertLive('bytes');
    return new Uint8Array(await native.read(owner._handle));
  }

  /** The value of a tensor with one element. Throws `ShapeError` for any other. */
  async item(): Promise<number> {
    this.assertOne('item');
    return (await this.data())[0]!;
  }

  /** Like {@link item}, but blocks. */
  itemSync(): number {
    this.assertOne('itemSync');
    return this.dataSync()[0]!;
  }

  /** Frees the tensor now. Work already enqueued still sees its values. Disposing twice is harmless. */
  dispose(): void {
    if (this._traced || this.flags & disposed) return;
    this.end();
    native.dispose(this._handle);
  }

  /** The handle is the caller's to dispose of. */
  private end(): void {
    if (this.information === null) this.information = this.info; // shape and dtype stay readable
    this.flags |= disposed;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    return `Tensor(${this.dtype}[${this.shape.join(', ')}] on ${this.device}${this.disposed ? ', disposed' : ''})`;
  }

  /** @internal The tensor that owns the values, below all tracing. */
  _primal(): Tensor {
    let owner: Tensor = this;
    while (owner._traced) owner = owner._traced.primal;
    return owner;
  }

  /** @internal Adds the owners of everything this tensor stands for: its values and, where traced, its tangents. */
  _collectOwners(into: Set<Tensor>): void {
    if (!this._traced) {
      into.add(this);
      return;
    }
    this._traced.primal._collectOwners(into);
    this._traced.tangent?._collectOwners(into);
  }

  /** @internal Something that outlives the scope (a tape) needs the values. */
  _retain(): void {
    if (this._traced) {
      this._traced.primal._retain();
      this._traced.tangent?._retain();
    } else {
      this.retains += 1;
    }
  }

  /** @internal */
  _release(): void {
    if (this._traced) {
      this._traced.primal._release();
      this._traced.tangent?._release();
      return;
    }
    this.retains -= 1;
    if (this.retains === 0 && this.flags & orphan) this.dispose();
  }

  /** @internal The scope that owned this tensor ended, and it did not escape. Whether its handle is to be disposed of. */
  _leaveScope(): boolean {
    if (this.flags & disposed) return false;
    if (this.flags & kept) {
      this._watch();
      return false;
    }
    if (this.retains > 0) {
      this.flags |= orphan;
      this._watch();
      return false;
    }
    this.end();
    return true;
  }

  /** @internal Whether the two are known to be of the same shape, dtype and device. */
  _isLike(other: Tensor): boolean {
    return this.info === other.info;
  }

  /**
   * @internal From now on the collector may find it forgotten, and its handle goes with it; not as long as a scope holds it:
   * most end with theirs, and being watched costs as much as a small op.
   */
  _watch(): void {
    if (this.flags & (watched | disposed)) return;
    this.flags |= watched;
    native.watch(this, this._handle);
  }

  /** @internal */
  _keep(): void {
    this._primal().flags |= kept;
  }

  private assertLive(op: string): void {
    if (this.flags & disposed) throw new DisposedError(op, `x must be a live tensor, got one that was disposed`);
  }

  private assertOne(op: string): void {
    if (this.size !== 1) throw new ShapeError(op, `x must have one element, got shape [${this.shape.join(', ')}]`);
  }
}

export function isTensor(value: unknown): value is Tensor {
  return value instanceof Tensor;
}

function asTyped(buffer: ArrayBuffer, dtype: DType): TypedArray {
  switch (dtype) {
    case 'float64':
      return new Float64Array(buffer);
    case 'int32':
      return new Int32Array(buffer);
    case 'bool':
      return new Uint8Array(buffer);
    default:
      return new Float32Array(buffer);
  }
}
