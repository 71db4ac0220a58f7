// Recordings of the conformance programs: making, finding and comparing them.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from '../support/programs';

/** A case's result: `words` are hexadecimal, 32 bits each. */
export interface Case {
  name: string;
  as: 'bits' | 'float32' | 'halfPairs';
  tolerance: number;
  words: string;
}

export interface Recording {
  device: string;
  capability: string;
  date: string;
  /** Of the wrappers and of the programs that call them. */
  hash: string;
  cases: Case[];
}

const folder = join(root, 'test', 'cuda', 'conformance');
export const recordingsFolder = join(folder, 'recordings');

function sources(path: string, pattern: RegExp): string[] {
  return readdirSync(path)
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => join(path, name));
}

export function currentHash(): string {
  const hash = createHash('sha256');
  const files = [
    ...sources(join(root, 'csrc', 'cuda', 'ptx'), /\.cuh$/),
    ...sources(join(root, 'csrc', 'cuda', 'hopper'), /\.(cuh|h)$/),
    ...sources(folder, /\.cuh?$/),
  ];
  for (const file of files) hash.update(file.slice(root.length)).update('\0').update(readFileSync(file)).update('\0');
  return hash.digest('hex').slice(0, 16);
}

/** What the programs printed, as a recording. */
export function toRecording(lines: readonly object[]): Recording {
  const [head, ...cases] = lines as [Pick<Recording, 'device' | 'capability'>, ...Case[]];
  return { ...head, date: new Date().toISOString().slice(0, 10), hash: currentHash(), cases };
}

/** The programs, the compute capabilities that run them, and the device that the emulator pretends to be for them. */
export const programs = [
  { name: 'conformance', capabilities: { from: 8 }, env: {} },
  { name: 'conformance_cluster', capabilities: { from: 9 }, env: { SIMT_SM: '90' } },
  { name: 'conformance_hopper', capabilities: { only: 9 }, env: { SIMT_SM: '90' } },
] as const;

/** Whether a device runs a program; of the emulator's devices, one does. */
export function runsOn(
  runtime: 'emulated' | 'gpu',
  first: object | undefined,
  capabilities: { from: number } | { only: number },
): boolean {
  if (runtime === 'emulated' || !first) return true;
  const capability = Number((first as Recording).capability);
  return 'only' in capabilities ? capability === capabilities.only : capability >= capabilities.from;
}

export function record(runtime: 'emulated' | 'gpu'): Recording {
  const lines: object[] = [];
  for (const { name, capabilities, env } of programs) {
    if (!runsOn(runtime, lines[0], capabilities)) continue;
    const printed = run<object>(name, [], { runtime, env });
    lines.push(...(lines.length === 0 ? printed : printed.slice(1)));
  }
  return toRecording(lines);
}

export function recordings(): Recording[] {
  return sources(recordingsFolder, /\.json$/).map((file) => JSON.parse(readFileSync(file, 'utf8')) as Recording);
}

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 0x3ff;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent ? sign * 2 ** (exponent - 25) * (1024 + mantissa) : sign * 2 ** -24 * mantissa;
}

function numbers({ as, words }: Case): number[] {
  const bits = words.split(' ').map((word) => Number.parseInt(word, 16));
  if (as === 'halfPairs') return bits.flatMap((pair) => [half(pair & 0xffff), half(pair >>> 16)]);
  const floats = new Float32Array(Uint32Array.from(bits).buffer);
  return [...floats];
}

/** Where two runs of one case differ by more than they may; empty when they agree. */
export function differences(expected: Case, actual: Case | undefined): string[] {
  if (!actual) return [`${expected.name}: no such case`];
  if (expected.as === 'bits') {
    const [a, b] = [expected.words.split(' '), actual.words.split(' ')];
    return a.flatMap((word, i) => (word === b[i] ? [] : [`${expected.name}[${i}]: expected ${word}, got ${b[i]}`]));
  }
  const b = numbers(actual);
  return numbers(expected).flatMap((value, i) =>
    Math.abs(value - b[i]!) <= expected.tolerance ? [] : [`${expected.name}[${i}]: expected ${value}, got ${b[i]}`],
  );
}

export function compare(expected: Recording, actual: Recording): string[] {
  const found = new Map(actual.cases.map((each) => [each.name, each]));
  return expected.cases.flatMap((each) => differences(each, found.get(each.name)));
}
