// Measures families of operations on the CPU, beside the machine's ceilings and, if asked to, beside the other libraries
// found on this machine.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { threads } from '../lib';
import { Peers } from './baselines/peers';
import { isCapped } from './presets';
import { copyCeiling, gemmCeiling } from './support/ceilings';
import { UsageError } from './support/commandLine';
import { printGrowth } from './support/growth';
import { type Ceilings, measure, type Row, type Subject } from './support/measure';
import { provenance } from './support/provenance';
import { figuresOf, type Scaling, type StoredFigure } from './support/runFile';
import { dtypes, type Setting, type Takes } from './support/setting';
import { printTable } from './support/table';

/** What a `benchmarks/ops/<family>.bench` file exports: groups of subjects to be measured together. */
export interface Bench {
  /** Absent: float32 at its own sizes only. */
  takes?: Takes;
  groups(setting: Setting): Iterable<Group>;
}

/** What a `benchmarks/peers/<family>.bench` file exports. */
export interface PeersBench {
  groups(peers: Peers): AsyncIterable<Group>;
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
  setting: Setting;
  /** The command line, for the file's head. */
  args: readonly string[];
  /** Called after each group with what there is so far, as a run may take long and be ended. */
  keep?: (run: object) => void;
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

const benchOf = (family: string) => require(join(__dirname, 'ops', `${family}.bench`)) as Bench;

/** Why a family cannot be measured at a setting; undefined where it can. */
function refusal(family: string, { dtype, shapes }: Setting): string | undefined {
  const takes = benchOf(family).takes ?? { dtype: false, shapes: [] };
  const known = takes.dtype === true ? dtypes : takes.dtype || (['float32'] as const);
  if (!known.includes(dtype)) return `'${family}' is measured in ${known.join(' and ')} only`;
  if (shapes && takes.shapes.length === 0) return `'${family}' is measured at its own sizes only`;
  if (shapes && !takes.shapes.includes(shapes)) {
    return `'${family}' has no sizes of '${shapes}', expected one of ${takes.shapes.join(', ')}`;
  }
  return undefined;
}

/** The families to be measured: those named, which must be able to; else all that are. @throws UsageError */
export function familiesFor(named: readonly string[], setting: Setting): string[] {
  const known = benches('ops');
  checkFamilies(named, known);
  for (const family of named) {
    const reason = refusal(family, setting);
    if (reason) throw new UsageError(reason);
  }
  return named.length > 0 ? [...named] : known.filter((family) => refusal(family, setting) === undefined);
}

/** Each round has the ceilings as well: a machine that others use, too, is not as fast at all times. */
async function besideCeilings(subjects: readonly Subject[], best: readonly Subject[]): Promise<Row[]> {
  const bounds = best.filter(({ flops }) => subjects.some((subject) => (flops ? subject.flops : subject.bytes)));
  const rows = await measure([...subjects, ...bounds]);
  const ceilings: Ceilings = {};
  for (const { flops, bytes, median } of rows.splice(subjects.length)) {
    if (flops) ceilings.flops = flops / median;
    else ceilings.bytes = bytes! / median;
  }
  return bounds.length > 0 ? rows.map((row) => ({ ...row, ceilings })) : rows;
}

/** Measures and prints. @returns what the file of the run holds */
export async function measureCpu({ families, peers: withPeers, setting, args, keep }: CpuOptions) {
  const known = benches('peers');
  if (withPeers) checkFamilies(families, known);
  const wanted = withPeers ? (families.length > 0 ? families : known) : familiesFor(families, setting);
  const best = [gemmCeiling(setting.dtype), copyCeiling()];
  const [gemm, copy] = (await measure(best, { rounds: 5, atLeast: 0.1 })) as [Row, Row];
  const ceilings: Ceilings = { flops: gemm.flops! / gemm.p10, bytes: copy.bytes! / copy.p10 };
  printTable('ceilings', [gemm, copy], {});
  const results: StoredFigure[] = figuresOf('ceilings', [gemm, copy]);
  const peers = withPeers ? await Peers.find(threads()) : null;
  for (const line of peers?.found ?? []) console.log(line);
  if (setting.shapes && isCapped(setting.shapes)) {
    console.log(`\n${setting.shapes}: 'n of m' in a title says how much of the preset's size a CPU is given`);
  }
  const soFar = () => {
    const { versions, ...head } = provenance(args);
    return {
      ...head,
      versions: { ...versions, ...peers?.versions },
      ...(peers ? { peers: peers.found } : {}),
      ceilings,
      results,
    };
  };
  for (const family of wanted) {
    const groups = peers
      ? (require(join(__dirname, 'peers', `${family}.bench`)) as PeersBench).groups(peers)
      : benchOf(family).groups(setting);
    for await (const { title, subjects, scaling, done } of groups) {
      const rows = (await besideCeilings(subjects, best)).map((row) => ({ ...row, group: title, scaling }));
      printTable(`${family}: ${title}`, rows, ceilings);
      results.push(...figuresOf(family, rows));
      keep?.(soFar());
      await done?.();
    }
    printGrowth(results.filter((figure) => figure.family === family));
  }
  await peers?.stop();
  return soFar();
}
