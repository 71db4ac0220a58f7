// The other libraries found on this machine. One that is absent is named as absent.
import type { Tensor } from '../../lib';
import type { Subject } from '../support/measure';
import { findOnnxRuntime, OnnxRuntimeCase } from './onnxruntime';
import { PyTorch } from './pytorch';

type Outputs = ReadonlyMap<string, Tensor | Float32Array>;

/** Relative L2 distance of a peer's results from flowmap's, over the names both give. */
export function difference(ours: ReadonlyMap<string, Tensor>, theirs: Outputs): number {
  let [distance, size] = [0, 0];
  for (const [name, x] of ours) {
    const other = theirs.get(name);
    if (!other) throw new Error(`bench: a peer gave no ${name}`);
    const [a, b] = [x.dataSync(), other instanceof Float32Array ? other : other.dataSync()];
    for (let i = 0; i < a.length; i++) {
      distance += (Number(a[i]) - Number(b[i])) ** 2;
      size += Number(a[i]) ** 2;
    }
  }
  return Math.sqrt(distance / size);
}

export class Peers {
  /** Lines of peers that one family looked for itself. */
  readonly others: string[] = [];
  private readonly cleanups: (() => Promise<void>)[] = [];

  private constructor(
    readonly threads: number,
    readonly pytorch: PyTorch | null,
    private readonly onnx: ReturnType<typeof findOnnxRuntime>,
  ) {}

  static async find(threads: number): Promise<Peers> {
    return new Peers(threads, await PyTorch.start(threads), findOnnxRuntime());
  }

  /** A line per peer. */
  get found(): string[] {
    return [
      this.pytorch ? `PyTorch ${this.pytorch.version}, ${this.threads} threads` : 'PyTorch: absent',
      this.onnx ? `onnxruntime-node ${this.onnx.version}, ${this.threads} threads` : 'onnxruntime-node: absent',
      ...this.others,
    ];
  }

  /** A case of pytorch.py as a subject that does the work of `ours`; none where PyTorch is absent. */
  async pytorchSubject(
    subject: Pick<Subject, 'name' | 'flops' | 'bytes'> & { peerOf: string },
    [name, options]: [name: string, options: object],
    inputs: ReadonlyMap<string, Tensor>,
    ours: ReadonlyMap<string, Tensor>,
  ): Promise<Subject[]> {
    if (!this.pytorch) return [];
    const made = await this.pytorch.make(name, inputs, options);
    this.cleanups.push(() => made.drop());
    const outputs = await made.outputs();
    const distance = difference(ours, outputs);
    for (const x of outputs.values()) x.dispose();
    return [{ ...subject, difference: distance, time: (repeats) => made.time(repeats) }];
  }

  /** An ONNX graph likewise. */
  async onnxSubject(
    subject: Pick<Subject, 'name' | 'flops' | 'bytes'> & { peerOf: string },
    model: Buffer,
    inputs: ReadonlyMap<string, Tensor>,
    ours: ReadonlyMap<string, Tensor>,
  ): Promise<Subject[]> {
    if (!this.onnx) return [];
    const made = await OnnxRuntimeCase.create(this.onnx.ort, model, inputs, this.threads);
    this.cleanups.push(() => made.release());
    const distance = difference(ours, await made.outputs());
    return [{ ...subject, difference: distance, time: (repeats) => made.time(repeats) }];
  }

  /** Frees the cases made since the last call. */
  async clear(): Promise<void> {
    for (const cleanup of this.cleanups.splice(0)) await cleanup();
  }

  async stop(): Promise<void> {
    await this.clear();
    await this.pytorch?.stop();
  }
}
