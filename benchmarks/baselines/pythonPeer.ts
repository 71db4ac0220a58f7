// A Python library as a peer: drives a server of baselines/protocol.py in a process of its own, one request at a time. The
// interpreter is $FLOWMAP_PYTHON, else python3.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { loadSafetensors, saveSafetensors, type Tensor } from '../../lib';

type Reply = Record<string, unknown>;

const interpreter = () => process.env.FLOWMAP_PYTHON ?? 'python3';

export interface Facts {
  versions: Record<string, string>;
  [fact: string]: unknown;
}

export class PythonPeer {
  private readonly exited: Promise<void>;

  private constructor(
    private readonly child: ChildProcess,
    private readonly replies: AsyncIterator<string>,
    private readonly folder: string,
    private readonly script: string,
    readonly facts: Facts,
  ) {
    this.exited = new Promise((resolve) => child.once('exit', () => resolve()));
  }

  /** Starts a server on `threads` threads; where the library cannot be had, the reason. */
  static async start(script: string, threads: number, args: readonly string[] = []): Promise<PythonPeer | string> {
    const child = spawn(interpreter(), ['-B', join(__dirname, script), ...args], {
      stdio: ['pipe', 'pipe', process.env.FLOWMAP_PYTHON ? 'inherit' : 'ignore'],
    });
    const failed = new Promise<string>((resolve) => child.once('error', ({ message }) => resolve(message)));
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    child.once('exit', () => process.off('exit', kill));
    child.stdin!.on('error', () => {}); // the end of the replies tells it too
    const replies = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    child.stdin!.write(`${JSON.stringify({ threads })}\n`);
    const first = await Promise.race([replies.next(), failed]);
    if (typeof first === 'string') return first;
    if (first.done) return `${interpreter()} ended before it answered`;
    const reply = JSON.parse(first.value) as Reply;
    const absent = reply.absent ?? reply.error;
    if (absent === undefined) {
      return new PythonPeer(child, replies, await mkdtemp(join(tmpdir(), 'flowmap-bench-')), script, reply as Facts);
    }
    child.stdin!.end();
    return `${interpreter()}: ${String(absent)}`;
  }

  /** Prepares a case over the named tensors, runs it once and has it compile what it compiles; or says why it cannot. */
  async make(name: string, inputs: ReadonlyMap<string, Tensor>, options: object): Promise<PythonCase | string> {
    const path = join(this.folder, 'inputs.safetensors');
    await saveSafetensors(path, inputs);
    const { id, refused } = await this.ask({ make: name, inputs: path, options });
    return refused === undefined ? new PythonCase(this, id as number, this.folder) : String(refused);
  }

  async ask(request: object): Promise<Reply> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`);
    const line = await this.replies.next();
    if (line.done) {
      await this.exited;
      const how = this.child.signalCode ?? this.child.exitCode;
      throw new Error(`${this.script}: the process ended (${how}) before it answered`);
    }
    const reply = JSON.parse(line.value) as Reply;
    if (reply.error !== undefined) throw new Error(`${this.script}: ${String(reply.error)}`);
    return reply;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async stop(): Promise<void> {
    this.child.stdin!.end();
    await this.exited;
    await rm(this.folder, { recursive: true });
  }
}

export class PythonCase {
  constructor(
    private readonly server: PythonPeer,
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
    if (this.server.running) await this.server.ask({ drop: this.id });
  }
}
