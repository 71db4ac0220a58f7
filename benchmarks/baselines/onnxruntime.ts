// onnxruntime-node as a peer: runs a graph over given tensors. It is found where `require` finds it, and never installed by us.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Tensor } from '../../lib';

interface OrtValue {
  data: Float32Array;
}
interface OrtSession {
  run(feeds: Record<string, OrtValue>): Promise<Record<string, OrtValue>>;
  release(): Promise<void>;
}
interface Ort {
  Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => OrtValue;
  InferenceSession: { create(model: Buffer, options: object): Promise<OrtSession> };
}

/** The package and its version, or null where it is not installed. */
export function findOnnxRuntime(): { ort: Ort; version: string } | null {
  const require = createRequire(join(process.cwd(), 'package.json'));
  try {
    return {
      ort: require('onnxruntime-node') as Ort,
      version: (require('onnxruntime-node/package.json') as { version: string }).version,
    };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return null;
    throw error;
  }
}

/** A graph ready to run on `threads` threads. */
export class OnnxRuntimeCase {
  private constructor(
    private readonly session: OrtSession,
    private readonly feeds: Record<string, OrtValue>,
  ) {}

  static async create(ort: Ort, model: Buffer, inputs: ReadonlyMap<string, Tensor>, threads: number) {
    const session = await ort.InferenceSession.create(model, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: 'all',
    });
    const feeds: Record<string, OrtValue> = {};
    for (const [name, x] of inputs) {
      feeds[name] = new ort.Tensor('float32', x.dataSync() as Float32Array, x.shape);
    }
    return new OnnxRuntimeCase(session, feeds);
  }

  async time(repeats: number): Promise<number> {
    const start = process.hrtime.bigint();
    for (let i = 0; i < repeats; i++) await this.session.run(this.feeds);
    return Number(process.hrtime.bigint() - start) / 1e9 / repeats;
  }

  async outputs(): Promise<Map<string, Float32Array>> {
    return new Map(Object.entries(await this.session.run(this.feeds)).map(([name, value]) => [name, value.data]));
  }

  drop(): Promise<void> {
    return this.session.release();
  }
}
