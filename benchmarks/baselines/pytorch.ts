// PyTorch as a peer: drives baselines/pytorch.py in a process of its own, one request at a time. The interpreter is
// $FLOWMAP_PYTHON, else python3; where it has no PyTorch the peer is absent.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { loadSafetensors, saveSafetensors, type Tensor } from '../../lib';

type Reply = Record<string, unknown>;

export class PyTorch {
  private constructor(
    private readonly child: ChildProcess,
    private readonly replies: AsyncIterator<string>,
    private readonly folder: string,
    readonly version: string,
  ) {}

  /** Starts it on `threads` threads; null where there is no interpreter with PyTorch. */
  static async start(threads: number): Promise<PyTorch | null> {
    const python = process.env.FLOWMAP_PYTHON ?? 'python3';
    const child = spawn(python, ['-B', join(__dirname, 'pytorch.py')], {
      stdio: ['pipe', 'pipe', process.env.FLOWMAP_PYTHON ? 'inherit' : 'ignore'],
    });
    const failed = new Promise<null>((resolve) => child.once('error', () => resolve(null)));
    process.once('exit', () => child.kill('SIGKILL'));
    child.stdin!.on('error', () => {}); // the end of the replies tells it too
    const replies = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    child.stdin!.write(`${JSON.stringify({ threads })}\n`);
    const first = await Promise.race([replies.next(), failed]);
    if (first === null || first.done) return null;
    const { version } = JSON.parse(first.value) as { version: string };
    return new PyTorch(child, replies, await mkdtemp(join(tmpdir(), 'flowmap-bench-')), version);
  }

  /** Prepares a case of pytorch.py over the named tensors. */
  async make(name: string, inputs: ReadonlyMap<string, Tensor>, options: object): Promise<PyTorchCase> {
    const path = join(this.folder, 'inputs.safetensors');
    await saveSafetensors(path, inputs);
    const { id } = (await this.ask({ make: name, inputs: path, options })) as { id: number };
    return new PyTorchCase(this, id, this.folder);
  }

  async ask(request: object): Promise<Reply> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`);
    const line = await this.replies.next();
    if (line.done) throw new Error('PyTorch: the process ended before it answered');
    const reply = JSON.parse(line.value) as Reply;
    if (reply.error !== undefined) throw new Error(`PyTorch: ${String(reply.error)}`);
    return reply;
  }

  async stop(): Promise<void> {
    this.child.stdin!.end();
    await new Promise((resolve) => this.child.once('exit', resolve));
    await rm(this.folder, { recursive: true });
  }
}

export class PyTorchCase {
  constructor(
    private readonly server: PyTorch,
    private readonly id: number,
    private readonly folder: string,
  ) {}

  async time(repeats: number): Promise<number> {
    return (await this.server.ask({ time: this.id, repeats })).seconds as number;
  }

  async outputs(): Promise<Map<string, Tensor>> {
    const path = join(this.folder, 'outputs.safetensors');
    await this.server.ask({ save: this.id, to: path });
    return loadSafetensors(path);
  }

  async drop(): Promise<void> {
    await this.server.ask({ drop: this.id });
  }
}
