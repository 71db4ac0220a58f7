// The other libraries found on this machine. One that is absent is named as absent, and a row that one cannot do is left out
// with its reason; results are compared with flowmap's before anything is timed.
import type { Tensor } from '../../lib';
import type { Subject } from '../support/measure';
import { difference, type Outputs } from './difference';
import { findJaxJs, JaxJsCase, type JaxJsWork } from './jaxJs';
import { findOnnxRuntime, OnnxRuntimeCase } from './onnxruntime';
import { PythonPeer } from './pythonPeer';

/** What a peer's rows are beside: flowmap's row, by its name, and its work. */
export type Work = Pick<Subject, 'flops' | 'bytes'> & { peerOf: string };

/** A case of a Python peer, by its name in pytorch.py or jax_peer.py. */
export interface PythonRow {
  peer: 'PyTorch' | 'PyTorch compiled' | 'JAX jit';
  case: string;
  options?: object;
  /** One of several ways to do it, for the row's name. */
  how?: string;
}

/** The case in PyTorch, eager and compiled. */
export const inPyTorch = (name: string, options: object = {}, how?: string): PythonRow[] =>
  (['PyTorch', 'PyTorch compiled'] as const).map((peer) => ({ peer, case: name, options, ...(how ? { how } : {}) }));

export const inJax = (name: string, options: object = {}): PythonRow => ({ peer: 'JAX jit', case: name, options });

interface Found {
  pytorch: PythonPeer | string;
  jax: PythonPeer | string;
  onnx: ReturnType<typeof findOnnxRuntime>;
  jaxJs: Awaited<ReturnType<typeof findJaxJs>>;
}

/** A run of more floating-point operations than this takes many seconds on one thread of WebAssembly. */
const jaxJsFlops = 2e10;

type Timed = { time(repeats: number): Promise<number>; outputs(): Promise<Outputs>; drop(): Promise<void> };

export class Peers {
  private readonly cleanups: (() => Promise<void>)[] = [];
  private readonly leftOut: string[] = [];

  private constructor(
    readonly threads: number,
    private readonly peers: Found,
  ) {}

  static async find(threads: number): Promise<Peers> {
    const pytorch = await PythonPeer.start('pytorch.py', threads);
    const jax = await PythonPeer.start('jax_peer.py', threads);
    return new Peers(threads, { pytorch, jax, onnx: findOnnxRuntime(), jaxJs: await findJaxJs() });
  }

  /** A line per peer, and one for each row left out so far. */
  get found(): string[] {
    const { pytorch, jax, onnx, jaxJs } = this.peers;
    const python = (name: string, peer: PythonPeer | string) =>
      typeof peer === 'string'
        ? `${name}: absent (${peer})`
        : `${name} ${peer.facts.versions[name]}, ${this.threads} threads${peer.facts.note ? `, ${peer.facts.note}` : ''}`;
    const notCompiled = typeof pytorch === 'string' ? 'no PyTorch' : pytorch.facts.notCompiled;
    return [
      python('PyTorch', pytorch),
      notCompiled ? `PyTorch compiled: absent (${notCompiled})` : 'PyTorch compiled: torch.compile of the same',
      python('JAX', jax),
      onnx ? `onnxruntime-node ${onnx.version}, ${this.threads} threads` : 'onnxruntime-node: absent',
      typeof jaxJs === 'string'
        ? `jax-js: absent (${jaxJs})`
        : `jax-js ${jaxJs.version}, WebAssembly, ${jaxJs.threads}`,
      ...this.leftOut,
    ];
  }

  /** Of all that were found. */
  get versions(): Record<string, string> {
    const { pytorch, jax, onnx, jaxJs } = this.peers;
    return {
      ...(typeof pytorch === 'string' ? {} : pytorch.facts.versions),
      ...(typeof jax === 'string' ? {} : jax.facts.versions),
      ...(onnx ? { 'onnxruntime-node': onnx.version } : {}),
      ...(typeof jaxJs === 'string' ? {} : { 'jax-js': jaxJs.version }),
    };
  }

  /** Cases of Python peers as subjects that do the work of `ours`; none of those that are absent. */
  async python(
    work: Work,
    rows: readonly PythonRow[],
    inputs: ReadonlyMap<string, Tensor>,
    ours: ReadonlyMap<string, Tensor>,
  ): Promise<Subject[]> {
    const subjects: Subject[] = [];
    for (const { peer, case: name, options = {}, how } of rows) {
      const server = this.peers[peer === 'JAX jit' ? 'jax' : 'pytorch'];
      const compile = peer === 'PyTorch compiled';
      if (typeof server === 'string' || (compile && server.facts.notCompiled)) continue;
      const title = how ? `${peer}, ${how}` : peer;
      const made = await server.make(name, inputs, { ...options, compile });
      if (typeof made === 'string') this.note(`${title}: no row beside '${work.peerOf}' (${made})`);
      else subjects.push(await this.subject(work, title, made, ours));
    }
    return subjects;
  }

  /** An ONNX graph likewise. */
  async onnx(
    work: Work,
    model: () => Buffer,
    inputs: ReadonlyMap<string, Tensor>,
    ours: ReadonlyMap<string, Tensor>,
  ): Promise<Subject[]> {
    if (!this.peers.onnx) return [];
    const made = await OnnxRuntimeCase.create(this.peers.onnx.ort, model(), inputs, this.threads);
    return [await this.subject(work, 'onnxruntime, hand-written graph', made, ours)];
  }

  /** A case of jax-js likewise, where it would not take too long. */
  async jaxJs(
    work: Work,
    made: JaxJsWork,
    inputs: ReadonlyMap<string, Tensor>,
    ours: ReadonlyMap<string, Tensor>,
  ): Promise<Subject[]> {
    const { jaxJs } = this.peers;
    if (typeof jaxJs === 'string') return [];
    if ((work.flops ?? 0) > jaxJsFlops) {
      this.note(`jax-js: no row beside '${work.peerOf}' of more than ${jaxJsFlops / 1e9} GFLOP (too slow)`);
      return [];
    }
    return [await this.subject(work, 'jax-js', JaxJsCase.create(jaxJs.jax, made, inputs), ours)];
  }

  /** Frees the cases made since the last call. */
  async clear(): Promise<void> {
    for (const cleanup of this.cleanups.splice(0)) await cleanup();
  }

  async stop(): Promise<void> {
    await this.clear();
    for (const peer of [this.peers.pytorch, this.peers.jax]) if (typeof peer !== 'string') await peer.stop();
  }

  /** Says and keeps a line: of a peer that only some families look for, or of what cannot be beside flowmap's rows. */
  note(line: string): void {
    if (this.leftOut.includes(line)) return;
    this.leftOut.push(line);
    console.log(line);
  }

  private async subject(work: Work, title: string, made: Timed, ours: ReadonlyMap<string, Tensor>): Promise<Subject> {
    this.cleanups.push(() => made.drop());
    const outputs = await made.outputs();
    const distance = difference(title, ours, outputs);
    for (const x of outputs.values()) if (!(x instanceof Float32Array)) x.dispose();
    return { ...work, name: `  ${title}`, difference: distance, time: (repeats) => made.time(repeats) };
  }
}
