// The JSON of a run. Files of the CPU, of GPUs and of earlier versions, which lack some of the head, read alike.
import { readFileSync, writeFileSync } from 'node:fs';
import type { Ceilings, Row } from './measure';
import type { Machine, Provenance } from './provenance';
import { ratesOf, timesFlowmap } from './table';

/** A size that a row stands for, among rows of the same work at other sizes. */
export interface Scaling {
  /** What the rows of one line share, as 'H 4, D 64'. */
  series: string;
  /** What grows along it, as 'tokens'. */
  variable: string;
  value: number;
}

export interface Figure {
  family: string;
  group?: string;
  name: string;
  seconds: { median: number; p10: number; p90: number };
  /** Of one run, by the benchmark's convention. */
  flops?: number;
  bytes?: number;
  /** Training steps of one run. */
  steps?: number;
  /** Relative L2 distance from the same in float64. */
  error?: number;
  /** Of the device's memory, one run, above what was held before it: see peakMemory. */
  peakBytes?: number;
  /** A GPU's: what JavaScript needed to queue one run, which is no part of the times. */
  launchSeconds?: number;
  scaling?: Scaling;
  /** What the machine did at best in the same rounds; absent where that was not measured beside it. */
  ceilings?: Ceilings;
  /** A peer's: the row it does the work of, how many times as long it took, and how far off its results are. */
  peerOf?: string;
  timesFlowmap?: number;
  difference?: number;
}

export interface Run extends Partial<Omit<Provenance, 'machine'>> {
  machine: Machine;
  ceilings: Ceilings;
  /** A line for each peer that was looked for. */
  peers?: string[];
  /** A GPU's: by what the times were taken. */
  timing?: string;
  results: Figure[];
}

/** As it stands in the file: with the rates, for readers without a calculator. */
export type StoredFigure = Figure & { gflops?: number; gbytes?: number };

export function figuresOf(family: string, rows: readonly Row[]): StoredFigure[] {
  return rows.map((row) => {
    const { group, name, median, p10, p90, flops, bytes, scaling, peerOf, difference, float64Error, peakBytes } = row;
    const optional = {
      flops,
      bytes,
      steps: row.steps,
      ...ratesOf(row),
      error: float64Error,
      peakBytes,
      scaling,
      ceilings: row.ceilings,
      ...(peerOf === undefined ? {} : { peerOf, timesFlowmap: timesFlowmap(row, rows), difference }),
    };
    const present = Object.entries(optional).filter(([, value]) => value !== undefined);
    return {
      family,
      ...(group === undefined ? {} : { group }),
      name,
      seconds: { median, p10, p90 },
      ...Object.fromEntries(present),
    };
  });
}

export const writeRun = (path: string, run: object): void => writeFileSync(path, `${JSON.stringify(run, null, 2)}\n`);

interface Stored extends Partial<Provenance> {
  ceilings?: Ceilings;
  peers?: string[];
  timing?: string;
  /** A GPU's name, and its ceilings. */
  device?: string;
  ceiling?: { bytes: number; copySeconds: number };
  product?: { flops: number };
  emulated?: boolean;
  results: Partial<StoredFigure & { tflops: number }>[];
}

const isTime = (x: unknown) => typeof x === 'number' && Number.isFinite(x) && x > 0;

function isRun(json: unknown): json is Stored {
  const results = (json as Stored | null)?.results;
  return (
    Array.isArray(results) &&
    results.every((row) => typeof row?.family === 'string' && typeof row.name === 'string') &&
    ((json as Stored).emulated === true ||
      results.every(({ seconds }) => isTime(seconds?.median) && isTime(seconds?.p10) && isTime(seconds?.p90)))
  );
}

/** @throws Error that names the file and says what is wrong with it */
export function readRun(path: string): Run {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Error(`cannot read '${path}': ${(error as Error).message}`);
  }
  return runOf(json, path);
}

/** A run from its JSON. @param path what messages call it */
export function runOf(json: unknown, path: string): Run {
  if (!isRun(json)) throw new Error(`'${path}' is not a run of the benchmarks: it has no results with times`);
  if (json.emulated) throw new Error(`'${path}' is a run on the emulator, which has no times`);
  const { date, commit, command, versions, peers, timing, ceiling, device } = json;
  const gpu = json.machine?.gpu ?? device;
  return {
    ...Object.fromEntries(
      Object.entries({ date, commit, command, versions, peers, timing }).filter(([, value]) => value !== undefined),
    ),
    machine: { ...json.machine, ...(gpu === undefined ? {} : { gpu }) },
    ceilings: json.ceilings ?? {
      ...(json.product ? { flops: json.product.flops } : {}),
      ...(ceiling ? { bytes: (2 * ceiling.bytes) / ceiling.copySeconds } : {}),
    },
    results: json.results.map((row, i) => readFigure(row as StoredFigure, json.results as StoredFigure[], i)),
  };
}

function readFigure(stored: StoredFigure & { tflops?: number }, all: readonly StoredFigure[], at: number): Figure {
  const { family, group, name, seconds, gflops, gbytes, tflops, timesFlowmap } = stored;
  const { steps, error, peakBytes, launchSeconds, scaling, ceilings, difference } = stored;
  const rate = gflops === undefined ? tflops && 1e12 * tflops : 1e9 * gflops;
  const flops = stored.flops ?? (rate && rate * seconds.median);
  const bytes = stored.bytes ?? (gbytes && 1e9 * gbytes * seconds.median);
  // Earlier files do not say whose peer a row is; it followed that row.
  const peerOf =
    stored.peerOf ??
    (timesFlowmap === undefined ? undefined : all.slice(0, at).findLast((row) => row.timesFlowmap === undefined)?.name);
  const measured = { flops, bytes, steps, error, peakBytes, launchSeconds };
  const optional = { group, ...measured, scaling, ceilings, peerOf, timesFlowmap, difference };
  const present = Object.entries(optional).filter(([, value]) => value !== undefined);
  return { family, name, seconds, ...Object.fromEntries(present) };
}
