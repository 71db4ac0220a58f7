// Measures families of operations on the CPU, beside the machine's ceilings and, if asked to, beside the other libraries
// found on this machine.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { threads } from '../lib';
import { Peers } from './baselines/peers';
import { copyCeiling, gemmCeiling } from './support/ceilings';
import { UsageError } from './support/commandLine';
import { measure, type Row, type Subject } from './support/measure';
import { provenance } from './support/provenance';
import { figuresOf, type Scaling, type StoredFigure } from './support/runFile';
import { type Ceilings, printTable } from './support/table';

/** What a `benchmarks/{ops,peers}/<family>.bench` file exports: groups of subjects to be measured together. */
export interface Bench {
  groups(peers: Peers): Iterable<Group> | AsyncIterable<Group>;
}

export interface Group {
  title: string;
  subjects: Subject[];
  /** Its place among groups that differ in one size only. */
  scaling?: Scaling;
  /** Called when the group was measured. */
  done?: () => Promise<void>;
}

export interface CpuOptions {
  families: readonly string[];
  peers: boolean;
  /** The command line, for the file's head. */
  args: readonly string[];
}

export function benches(folder: 'ops' | 'peers'): string[] {
  return readdirSync(join(__dirname, folder))
    .map((file) => /^(.+)\.bench\.[jt]s$/.exec(file)?.[1])
    .filter((name): name is string => name !== undefined)
    .sort();
}

export function checkFamilies(wanted: readonly string[], known: readonly string[]): void {
  for (const family of wanted) {
    if (!known.includes(family))
      throw new UsageError(`unknown family '${family}', expected one of ${known.join(', ')}`);
  }
}

/** Measures and prints. @returns what the file of the run holds */
export async function measureCpu({ families, peers: withPeers, args }: CpuOptions) {
  const folder = withPeers ? 'peers' : 'ops';
  const known = benches(folder);
  checkFamilies(families, known);
  const [gemm, copy] = (await measure([gemmCeiling(), copyCeiling()], { rounds: 5, atLeast: 0.1 })) as [Row, Row];
  const ceilings: Ceilings = { flops: gemm.flops! / gemm.p10, bytes: copy.bytes! / copy.p10 };
  printTable('ceilings', [gemm, copy], {});
  const results: StoredFigure[] = figuresOf('ceilings', [gemm, copy]);
  const peers = withPeers ? await Peers.find(threads()) : null;
  for (const line of peers?.found ?? []) console.log(line);
  for (const family of families.length > 0 ? families : known) {
    const bench = require(join(__dirname, folder, `${family}.bench`)) as Bench;
    for await (const { title, subjects, scaling, done } of bench.groups(peers!)) {
      const rows = (await measure(subjects)).map((row) => ({ ...row, group: title, scaling }));
      printTable(`${family}: ${title}`, rows, ceilings);
      results.push(...figuresOf(family, rows));
      await done?.();
    }
  }
  await peers?.stop();
  return { ...provenance(args), ...(peers ? { peers: peers.found } : {}), ceilings, results };
}
