// Measures groups of CUDA kernels beside CUDA's own copy and, where all are of one dtype, beside a product of matrices of it. On
// the emulator everything runs once or twice at toy sizes and no figure is given.
import { cudaFeatures, DeviceUnavailableError, emptyCache, OutOfMemoryError, synchronizeSync } from '../../lib';
import type { PresetName } from '../presets';
import { UsageError } from '../support/commandLine';
import type { Subject } from '../support/measure';
import { provenance } from '../support/provenance';
import { formatTime } from '../support/table';
import { copyCeiling, productRate } from './ceilings';
import { ColdCache, type EventOptions, measureByEvents, rotate } from './events';
import { figureOf, type GpuFigures, printFigures, timingOf } from './figures';
import { type BenchmarkDType, dtypeOf, type Group, runOnce } from './group';
import { groupsOf } from './groups';

const device = 'cuda';

export interface GpuOptions {
  /** Of the groups' families; all, if none. */
  families: readonly string[];
  /** Taken are groups whose 'family: title' matches. */
  only?: string;
  /** The selection of gpu:check, timed less often. */
  short: boolean;
  dtype?: BenchmarkDType;
  shapes?: PresetName;
  /** The command line, for the file's head. */
  args: readonly string[];
}

const gigabytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

type Made = ReturnType<Group['make']>;

function release({ held }: Made): void {
  for (const each of held) each.dispose();
}

/** Inputs beyond these make no run colder: their addresses are what differs. */
const mostInputs = 4;

/** How many times a group's inputs are made, as far as they fit into so many bytes. */
export const inputsFor = (group: Group, room: number, most = mostInputs): number =>
  Math.max(1, Math.min(most, Math.floor(room / group.memory)));

/**
 * Makes a group's inputs anew until there are `count`; fewer where the device has no room for more, which shows when
 * their subjects run.
 */
export function makeMore(first: Made, group: Group, names: readonly string[], count: number): Made[] {
  const all = [first];
  while (all.length < count) {
    const made = group.make();
    try {
      for (const subject of made.subjects) if (names.includes(subject.name)) runOnce(subject);
    } catch (error) {
      release(made);
      if (error instanceof OutOfMemoryError) break;
      for (const other of all.slice(1)) release(other);
      throw error;
    }
    all.push(made);
  }
  return all;
}

class Benchmarks {
  constructor(
    private readonly figures: GpuFigures,
    private readonly copyRate: number,
    private readonly room: number,
    private readonly options: EventOptions,
  ) {}

  /** Measures a group, less what fails; what does is reported. */
  run(group: Group): void {
    const { family, title } = group;
    const name = `${family}: ${title}`;
    const note = (error: unknown, subject?: string) => {
      const message = (error as Error).message;
      const what = { group: title, ...(subject ? { name: subject } : {}) };
      const unavailable = error instanceof DeviceUnavailableError;
      if (unavailable) this.figures.skipped.push({ ...what, reason: message });
      else this.figures.failed.push({ ...what, error: message });
      console.log(`${unavailable ? 'skipped' : 'FAILED'} ${[name, subject].filter(Boolean).join(', ')}: ${message}`);
    };
    let all: Made[];
    try {
      all = [group.make()];
    } catch (error) {
      note(error);
      return;
    }
    try {
      const subjects: Subject[] = all[0]!.subjects.filter((subject) => {
        try {
          runOnce(subject);
          return true;
        } catch (error) {
          note(error, subject.name);
          return false;
        }
      });
      const names = subjects.map((subject) => subject.name);
      all = makeMore(all[0]!, group, names, inputsFor(group, this.room, this.figures.emulated ? 2 : mostInputs));
      this.measure(
        group,
        all.map((made) => made.subjects.filter((subject) => names.includes(subject.name))),
      );
    } catch (error) {
      note(error);
    } finally {
      for (const made of all) release(made);
      emptyCache(device);
    }
  }

  private measure({ family, title, tiny, scaling }: Group, subjects: readonly (readonly Subject[])[]): void {
    if (subjects[0]!.length === 0) return;
    const rows = measureByEvents(rotate(subjects), this.options);
    if (this.figures.emulated) {
      const ran = rows.map((row) => ({ family, group: title, name: row.name, inputs: row.inputs! }));
      this.figures.results.push(...ran);
      return;
    }
    const results = rows.map(({ bytes, ...row }) =>
      figureOf(family, { ...row, ...(tiny ? {} : { bytes }), group: title, scaling }, this.copyRate),
    );
    printFigures(`${family}: ${title}`, results);
    this.figures.results.push(...results);
  }

  skip({ family, title }: Group, reason: string): void {
    this.figures.skipped.push({ group: title, reason });
    console.log(`skipped ${family}: ${title}: ${reason}`);
  }
}

export function gpuFamilies(): string[] {
  return [...new Set(groupsOf({ device, toy: true }).map(({ family }) => family))].sort();
}

/** The groups asked for. @throws UsageError where there are none */
export function chosenGroups(options: GpuOptions, toy: boolean): Group[] {
  const { families, only, short, dtype, shapes } = options;
  const known = gpuFamilies();
  for (const family of families) {
    if (!known.includes(family))
      throw new UsageError(`unknown family '${family}', expected one of ${known.join(', ')}`);
  }
  const pattern = only === undefined ? undefined : new RegExp(only, 'i');
  const groups = groupsOf({ device, toy, ...(shapes ? { shapes } : {}) })
    .filter(({ family }) => families.length === 0 || families.includes(family))
    .filter(({ family, title }) => pattern?.test(`${family}: ${title}`) ?? true)
    .filter((group) => dtype === undefined || dtypeOf(group) === dtype)
    .filter((group) => group.short || toy || !short);
  if (groups.length > 0) return groups;
  const asked = Object.entries({ families: families.join(', '), only, dtype, shapes })
    .filter(([, value]) => value)
    .map(([name, value]) => `${name} '${value}'`);
  throw new UsageError(`no group on a GPU matches ${asked.join(', ')}`);
}

/** Measures and prints what there is room for; failures are among the figures. */
export function measureGpu(options: GpuOptions): GpuFigures {
  const { emulated, devices, reason } = cudaFeatures();
  const groups = chosenGroups(options, emulated);
  const [gpu] = devices;
  if (!gpu) throw new Error(`benchmarks on 'cuda' need a CUDA device: ${reason}`);
  // Twice the cache, as what is written may lie in it unevenly.
  const cold = new ColdCache(device, emulated ? 4096 : 2 * gpu.l2Bytes);
  const events: EventOptions = { device, cold, ...(emulated ? { rounds: 1, atLeast: 0 } : {}) };
  const ceiling = copyCeiling(events, gpu.l2Bytes, emulated ? 4096 : 2 ** 28);
  const copyRate = (2 * ceiling.bytes) / ceiling.copySeconds;
  const figures: GpuFigures = {
    ...provenance(options.args, gpu.name),
    emulated,
    device: gpu.name,
    ...(emulated ? {} : { timing: timingOf(ceiling), ceiling }),
    results: [],
    skipped: [],
    failed: [],
  };
  if (!emulated) {
    console.log(
      `copy within the device: ${(copyRate / 1e9).toFixed(0)} GB/s; two events with nothing between them are ${formatTime(ceiling.eventSeconds)} apart; ${timingOf(ceiling)}`,
    );
    const [dtype, ...others] = new Set(groups.map(dtypeOf));
    const flops = others.length === 0 ? productRate(dtype!, events) : null;
    if (flops) {
      figures.product = { dtype: dtype!, flops };
      console.log(`product of 8192³ ${dtype}: ${(flops / 1e12).toFixed(1)} TFLOP/s`);
    }
  }
  // The driver keeps some, and blocks are a little larger than tensors.
  const room = 0.9 * gpu.memoryBytes - cold.bytes;
  const benchmarks = new Benchmarks(figures, copyRate, room, {
    ...events,
    ...(options.short && !emulated ? { rounds: 5, atLeast: 0.01 } : {}),
  });
  for (const group of groups) {
    if (!emulated && group.memory > room) {
      benchmarks.skip(group, `needs ${gigabytes(group.memory)}, the device has ${gigabytes(gpu.memoryBytes)}`);
    } else {
      benchmarks.run(group);
    }
  }
  synchronizeSync(device);
  if (emulated) console.log(`emulated: ${figures.results.length} subjects ran at toy sizes; no figures`);
  return figures;
}
