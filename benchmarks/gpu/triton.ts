// Attention with its tangent beside Triton kernels that others publish, from checkouts the user has, on the same inputs and by
// CUDA's events on their side. What a checkout cannot do is named, with the reason.
import { existsSync } from 'node:fs';
import { attention, dispose, jvp, randn, type Tensor, tidy } from '../../lib';
import { difference } from '../baselines/difference';
import { PythonPeer } from '../baselines/pythonPeer';
import type { PresetName } from '../presets';
import { gradientsBehind } from '../support/gradients';
import { measure, type Row, type Subject } from '../support/measure';
import { printTable, timesFlowmap } from '../support/table';
import { type Size, sizesOf } from './attention';
import { figureOf, type GpuFigures } from './figures';

/** Of bfloat16 results of bfloat16 inputs, whose probabilities are rounded before they are multiplied. */
const tolerance = 3e-2;

const names = ['q', 'k', 'v', 'tq', 'tk', 'tv'] as const;

export interface TritonOptions {
  /** Folders by the names of baselines/triton_peer.py. */
  checkouts: Readonly<Record<string, string>>;
  device: string;
  shapes?: PresetName;
  /** In place of those of the benchmarks. */
  sizes?: readonly Size[];
}

export interface TritonFindings {
  /** A line per checkout, and one for each row left out. */
  peers: string[];
  versions: Record<string, string>;
  rows: Row[];
}

function withTangent(...[q, k, v, tq, tk, tv]: Tensor[]): Tensor[] {
  return jvp((a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c), [q!, k!, v!], [tq!, tk!, tv!]) as Tensor[];
}

/** What another process or a comparison reads. */
function readable(tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  return new Map(
    [...tensors].map(([name, x]) => [name, tidy(() => x.to({ dtype: 'float32', device: 'cpu' }))] as const),
  );
}

interface Pass {
  name: string;
  run: () => Tensor[];
  results: readonly string[];
  flops: number;
  options: object;
}

function passesOf({ batch, heads, tokens, dim }: Size, inputs: ReadonlyMap<string, Tensor>): Pass[] {
  const leaves = names.map((name) => inputs.get(name)!);
  const product = 2 * batch * heads * tokens * tokens * dim;
  const both = () => gradientsBehind(withTangent, leaves, [inputs.get('g')!, inputs.get('h')!]);
  return [
    {
      name: 'value with tangent',
      run: () => withTangent(...leaves),
      results: ['o', 'to'],
      flops: 6 * product,
      options: {},
    },
    {
      name: 'value with tangent, then backward of both',
      run: both,
      results: names.map((name) => `g${name}`),
      flops: 21 * product,
      options: { backward: true },
    },
  ];
}

async function besides(
  pass: Pass,
  servers: ReadonlyMap<string, PythonPeer>,
  inputs: ReadonlyMap<string, Tensor>,
  leaveOut: (line: string) => void,
): Promise<{ subjects: Subject[]; drop: () => Promise<void> }> {
  const { name, flops } = pass;
  const results = tidy(() => pass.run());
  const ours = readable(new Map(pass.results.map((result, i) => [result, results[i]!])));
  dispose(results);
  const subjects: Subject[] = [{ name, run: pass.run, flops }];
  const drops: (() => Promise<void>)[] = [];
  for (const [peer, server] of servers) {
    const made = await server.make('attention', inputs, pass.options);
    if (typeof made === 'string') {
      leaveOut(`${peer}: no row beside '${name}' (${made})`);
      continue;
    }
    drops.push(() => made.drop());
    const outputs = await made.outputs();
    const distance = difference(peer, ours, outputs, tolerance);
    dispose([...outputs.values()]);
    const time = (repeats: number) => made.time(repeats);
    subjects.push({ name: `  ${peer} (Triton)`, peerOf: name, flops, difference: distance, time });
  }
  dispose([...ours.values()]);
  return {
    subjects,
    drop: async () => {
      for (const drop of drops) await drop();
    },
  };
}

/** Starts what can be, and says of the others why they cannot. */
async function start({ checkouts, device }: TritonOptions, peers: string[]): Promise<Map<string, PythonPeer>> {
  const servers = new Map<string, PythonPeer>();
  for (const [name, folder] of Object.entries(checkouts)) {
    const server = existsSync(folder)
      ? await PythonPeer.start('triton_peer.py', 1, [name, folder, device])
      : `no folder ${folder}`;
    peers.push(typeof server === 'string' ? `${name}: absent (${server})` : `${name} (Triton), from ${folder}`);
    if (typeof server !== 'string') servers.set(name, server);
  }
  return servers;
}

/** Measures and prints. Of the benchmarks' sizes those of the short selection, without a mask. */
export async function measureTriton(options: TritonOptions): Promise<TritonFindings> {
  const { device, shapes, sizes = sizesOf(shapes).filter(({ causal, short }) => short && !causal) } = options;
  const findings: TritonFindings = { peers: [], versions: {}, rows: [] };
  const servers = await start(options, findings.peers);
  for (const line of findings.peers) console.log(line);
  const leaveOut = (line: string) => {
    if (findings.peers.includes(line)) return;
    findings.peers.push(line);
    console.log(line);
  };
  try {
    for (const server of servers.values()) Object.assign(findings.versions, server.facts.versions);
    for (const size of servers.size > 0 ? sizes : []) {
      const { batch, heads, tokens, dim } = size;
      const group = `beside Triton, [${batch}, ${heads}, ${tokens}, ${dim}] bfloat16`;
      const draw = () => randn([batch, heads, tokens, dim], { device, dtype: 'bfloat16' });
      const inputs = new Map<string, Tensor>([...names, 'g', 'h'].map((name) => [name, draw()]));
      const copies = readable(inputs);
      for (const pass of passesOf(size, inputs)) {
        const { subjects, drop } = await besides(pass, servers, copies, leaveOut);
        if (subjects.length > 1) {
          const rows = (await measure(subjects, { device })).map((row) => ({ ...row, group }));
          printTable(`attention: ${group}`, rows, {});
          findings.rows.push(...rows);
        }
        await drop();
      }
      dispose([...inputs.values(), ...copies.values()]);
    }
  } finally {
    for (const server of servers.values()) await server.stop();
  }
  return findings;
}

/** The same, added to the figures of a run on a GPU. */
export async function addTriton(
  figures: GpuFigures,
  checkouts: Readonly<Record<string, string>>,
  shapes?: PresetName,
): Promise<void> {
  if (figures.emulated) {
    console.log('Triton: not on the emulator, which has no times');
    return;
  }
  const found = await measureTriton({ checkouts, device: 'cuda', ...(shapes ? { shapes } : {}) });
  figures.peers = found.peers;
  figures.versions = { ...figures.versions, ...found.versions };
  for (const row of found.rows) {
    const { peerOf, difference: distance } = row;
    const beside =
      peerOf === undefined ? {} : { peerOf, timesFlowmap: timesFlowmap(row, found.rows), difference: distance };
    figures.results.push({ ...figureOf('attention', row, 1), ...beside });
  }
}
