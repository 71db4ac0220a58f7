// npm run gpu:check: everything that only a machine with a GPU can say, in one command and one JSON file.
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { commit } from '../../../benchmarks/support/source';
import { root } from '../../support/build';
import { benchmarks } from './benchmarks';
import { killRunning } from './child';
import { conformance } from './conformance';
import { deviceTests } from './deviceTests';
import { cudaSeen, machine } from './machine';
import { whatIsMissing } from './needs';
import { prepare } from './prepare';
import { type Head, type Report, stem, stepLines, verdict, writeReport } from './report';
import { sanitizer } from './sanitizer';
import { exitStatus, runStep, type Step } from './step';

// Together under ten minutes.
const steps: Step[] = [
  { name: 'machine', limitSeconds: 60, run: machine },
  { name: 'conformance', limitSeconds: 60, run: conformance },
  { name: 'tests', limitSeconds: 200, run: deviceTests },
  { name: 'sanitizer', limitSeconds: 180, run: sanitizer },
  { name: 'benchmarks', limitSeconds: 80, run: benchmarks },
];

const usage = `npm run gpu:check -- [--out folder] [--only step,…] [--limit step=seconds]… [--emulated]
npm run gpu:check -- --prepare    builds all that must travel to a machine without compilers
steps: ${steps.map(({ name }) => name).join(', ')}; --emulated is a dry run without a GPU`;

function stepNamed(name: string): Step {
  const found = steps.find((step) => step.name === name);
  if (!found) throw new Error(`gpu:check: no step is called '${name}'\n${usage}`);
  return found;
}

function chosen(only: string | undefined, limits: readonly string[]): Step[] {
  const names = only?.split(',').map((name) => stepNamed(name).name);
  const given = new Map(
    limits.map((text) => {
      const [name, seconds] = text.split('=');
      if (!(Number(seconds) > 0)) throw new Error(`gpu:check: --limit must be step=seconds, got '${text}'`);
      return [stepNamed(name!).name, Number(seconds)];
    }),
  );
  return steps
    .filter(({ name }) => !names || names.includes(name))
    .map((step) => ({ ...step, limitSeconds: given.get(step.name) ?? step.limitSeconds }));
}

async function deviceName(emulated: boolean): Promise<string> {
  try {
    return (await cudaSeen(emulated, 60_000)).devices[0]?.name ?? '';
  } catch {
    return ''; // the first step says why
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      out: { type: 'string' },
      only: { type: 'string' },
      limit: { type: 'string', multiple: true, default: [] },
      emulated: { type: 'boolean', default: false },
      prepare: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  if (values.prepare) return prepare();
  const todo = chosen(values.only, values.limit);
  const missing = whatIsMissing(values.emulated);
  if (missing.length > 0) {
    console.error(`gpu:check lacks, on this machine:\n  ${missing.join('\n  ')}`);
    console.error(
      "Where the sources and nvcc are, 'npm run gpu:check -- --prepare' builds them; then they travel with the tree.",
    );
    return 1;
  }
  const { emulated } = values;
  if (emulated) delete process.env.FLOWMAP_CUBLAS; // the emulator brings its own
  // Among the results there are only those of GPUs.
  const out = resolve(
    values.out ?? join(root, ...(emulated ? ['build', 'gpu-check'] : ['benchmarks', 'results', 'gpu'])),
  );
  const head: Head = { emulated, device: await deviceName(emulated), date: new Date().toISOString(), commit: commit() };
  const names = todo.map(({ name }) => name);
  const report: Report = { ...head, ...(values.only ? { only: names } : {}), pending: [...names], steps: [] };
  let path = writeReport(out, report);
  const file = (suffix: string) => join(out, `${stem(head)}.${suffix}`);
  for (const step of todo) {
    const done = await runStep(step, { emulated, file });
    report.steps.push(done);
    report.pending.shift();
    path = writeReport(out, report);
    console.log(`${stepLines(done).join('\n')}\n`);
  }
  console.log(`${path}\n${verdict(report)}`);
  return exitStatus(report.steps.map(({ outcome }) => outcome));
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    killRunning();
    process.exit(1);
  });
}
main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  },
);
