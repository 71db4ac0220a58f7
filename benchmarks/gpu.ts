// `node -r ./scripts/typescript.cjs benchmarks/gpu.ts [--only pattern] [--short] [--json out.json]`: the CUDA kernels beside CUDA's
// own copy. --only takes groups whose 'family: title' matches. On the emulator everything runs once at toy sizes and no figure is given.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { cudaFeatures, DeviceUnavailableError, emptyCache, synchronizeSync } from '../lib';
import { parseLines, program } from '../test/cuda/support/programs';
import { type Ceiling, figureOf, type GpuFigures, printFigures } from './gpu/figures';
import { type Group, runOnce } from './gpu/group';
import { groupsOf } from './gpu/groups';
import { type MeasureOptions, measure, type Subject } from './support/measure';
import { provenance } from './support/provenance';

const device = 'cuda';

function ceilingOf(emulated: boolean): Ceiling {
  const { path, env } = program('deviceCopy', emulated ? 'emulated' : 'gpu');
  const args = emulated ? ['4096', '2', '2'] : [String(2 ** 28), '50', '5000'];
  return parseLines<Ceiling>(execFileSync(path, args, { encoding: 'utf8', env: { ...process.env, ...env } }))[0]!;
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
        const results = rows.map((row) => figureOf(family, { ...row, group: title }, this.copyRate));
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

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { json: { type: 'string' }, only: { type: 'string' }, short: { type: 'boolean', default: false } },
  });
  const { emulated, devices, reason } = cudaFeatures();
  if (!devices[0]) throw new Error(`benchmarks/gpu needs a CUDA device: ${reason}`);
  const only = values.only === undefined ? undefined : new RegExp(values.only, 'i');
  const groups = groupsOf({ device, toy: emulated })
    .filter(({ family, title }) => only?.test(`${family}: ${title}`) ?? true)
    .filter(({ short }) => short || emulated || !values.short);
  if (groups.length === 0) throw new Error(`benchmarks/gpu: no group matches '${values.only}'`);
  const ceiling = ceilingOf(emulated);
  const copyRate = (2 * ceiling.bytes) / ceiling.copySeconds;
  const figures: GpuFigures = {
    ...provenance(process.argv.slice(2), devices[0].name),
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
  }
  const benchmarks = new Benchmarks(figures, copyRate, {
    device,
    ...(values.short ? { rounds: 5, atLeast: 0.01 } : {}),
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
  if (values.json) writeFileSync(values.json, `${JSON.stringify(figures, null, 2)}\n`);
  if (figures.failed.length > 0) throw new Error(`${figures.failed.length} subjects or groups failed`);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
