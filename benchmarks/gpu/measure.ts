// Measures groups of CUDA kernels beside CUDA's own copy and, where all are of one dtype, beside a product of matrices of it. On
// the emulator everything runs once at toy sizes and no figure is given.
import { execFileSync } from 'node:child_process';
import { cudaFeatures, DeviceUnavailableError, emptyCache, synchronizeSync } from '../../lib';
import { parseLines, program } from '../../test/cuda/support/programs';
import type { PresetName } from '../presets';
import { gemmCeiling } from '../support/ceilings';
import { UsageError } from '../support/commandLine';
import { type MeasureOptions, measure, type Subject } from '../support/measure';
import { provenance } from '../support/provenance';
import { type Ceiling, figureOf, type GpuFigures, printFigures } from './figures';
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

function ceilingOf(emulated: boolean): Ceiling {
  const { path, env } = program('deviceCopy', emulated ? 'emulated' : 'gpu');
  const args = emulated ? ['4096', '2', '2'] : [String(2 ** 28), '50', '5000'];
  return parseLines<Ceiling>(execFileSync(path, args, { encoding: 'utf8', env: { ...process.env, ...env } }))[0]!;
}

/** The rate of a product of matrices; null, with the reason told, where there is no library for it. */
async function productRate(dtype: BenchmarkDType): Promise<number | null> {
  try {
    const [row] = await measure([gemmCeiling(dtype, device, 8192)], { device, rounds: 5, atLeast: 0.05 });
    return row!.flops! / row!.p10;
  } catch (error) {
    console.log(`no ceiling for products: ${(error as Error).message}`);
    return null;
  }
}

const gigabytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

class Benchmarks {
  constructor(
    private readonly figures: GpuFigures,
    private readonly copyRate: number,
    private readonly options: MeasureOptions,
  ) {}

  /** Measures a group, less what fails; what does is reported. */
  async run(group: Group): Promise<void> {
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
    let made: ReturnType<Group['make']>;
    try {
      made = group.make();
    } catch (error) {
      return note(error);
    }
    try {
      const subjects: Subject[] = made.subjects.filter((subject) => {
        try {
          runOnce(subject);
          return true;
        } catch (error) {
          note(error, subject.name);
          return false;
        }
      });
      if (this.figures.emulated) {
        this.figures.results.push(...subjects.map((subject) => ({ family, group: title, name: subject.name })));
      } else if (subjects.length > 0) {
        const shown = group.tiny ? subjects.map((subject) => ({ ...subject, bytes: undefined })) : subjects;
        const rows = await measure(shown, this.options);
        const results = rows.map((row) =>
          figureOf(family, { ...row, group: title, scaling: group.scaling }, this.copyRate),
        );
        printFigures(name, results);
        this.figures.results.push(...results);
      }
    } catch (error) {
      note(error);
    } finally {
      for (const held of made.held) held.dispose();
      emptyCache(device);
    }
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
export async function measureGpu(options: GpuOptions): Promise<GpuFigures> {
  const { emulated, devices, reason } = cudaFeatures();
  const groups = chosenGroups(options, emulated);
  if (!devices[0]) throw new Error(`benchmarks on 'cuda' need a CUDA device: ${reason}`);
  const ceiling = ceilingOf(emulated);
  const copyRate = (2 * ceiling.bytes) / ceiling.copySeconds;
  const figures: GpuFigures = {
    ...provenance(options.args, devices[0].name),
    emulated,
    device: devices[0].name,
    ...(emulated ? {} : { ceiling }),
    results: [],
    skipped: [],
    failed: [],
  };
  if (!emulated) {
    const [rate, launch] = [(copyRate / 1e9).toFixed(0), (ceiling.launchSeconds * 1e6).toFixed(2)];
    console.log(
      `copy within the device: ${rate} GB/s, L2 ${(ceiling.l2Bytes / 2 ** 20).toFixed(0)} MiB; an empty launch: ${launch} µs`,
    );
    const [dtype, ...others] = new Set(groups.map(dtypeOf));
    const flops = others.length === 0 ? await productRate(dtype!) : null;
    if (flops) {
      figures.product = { dtype: dtype!, flops };
      console.log(`product of 8192³ ${dtype}: ${(flops / 1e12).toFixed(1)} TFLOP/s`);
    }
  }
  const benchmarks = new Benchmarks(figures, copyRate, {
    device,
    ...(options.short ? { rounds: 5, atLeast: 0.01 } : {}),
  });
  // The driver keeps some, and blocks are a little larger than tensors.
  const room = 0.9 * devices[0].memoryBytes;
  for (const group of groups) {
    if (!emulated && group.memory > room) {
      benchmarks.skip(group, `needs ${gigabytes(group.memory)}, the device has ${gigabytes(devices[0].memoryBytes)}`);
    } else {
      await benchmarks.run(group);
    }
  }
  synchronizeSync(device);
  if (emulated) console.log(`emulated: ${figures.results.length} subjects ran at toy sizes; no figures`);
  return figures;
}
