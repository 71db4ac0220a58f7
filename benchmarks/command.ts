// `flowmap bench` and `npm run bench`: measures families of operations, compares two runs, or shows one.
import { writeFileSync } from 'node:fs';
import { helpText, type Request, readRequest, reports } from './options';
import { markdownOf } from './report/markdown';
import { pageOf } from './report/page';
import { type Line, readLine, UsageError } from './support/commandLine';
import { formatDiff } from './support/diff';
import { type Run, readRun, runOf, writeRun } from './support/runFile';

function compare(args: readonly string[]): void {
  const { positionals } = readLine({}, args);
  const [a, b] = positionals;
  if (positionals.length !== 2) throw new UsageError(`diff takes two files, got ${positionals.length}`);
  console.log(formatDiff(readRun(a!), readRun(b!)));
}

function writeReports(run: Run, line: Line): void {
  const [page, markdown] = [line.text('report'), line.text('markdown')];
  if (page) writeFileSync(page, pageOf(run));
  if (markdown) writeFileSync(markdown, markdownOf(run));
}

function show(args: readonly string[]): void {
  const line = readLine(reports, args);
  if (line.positionals.length !== 1) throw new UsageError(`report takes one file, got ${line.positionals.length}`);
  if (!line.text('report') && !line.text('markdown')) {
    throw new UsageError('report needs --report <file.html>, --markdown <file.md> or both');
  }
  writeReports(readRun(line.positionals[0]!), line);
}

// What measures comes late: comparing and showing do without the addon.
const onCpu = () => require('./cpu') as typeof import('./cpu');
const onGpu = () => require('./gpu/measure') as typeof import('./gpu/measure');

async function measureOnGpu(request: Request, args: readonly string[]) {
  const { dtype } = request;
  const { dtypes } = require('./gpu/group') as typeof import('./gpu/group');
  const known = dtypes.find((each) => each === dtype);
  if (dtype && !known) throw new UsageError(`--dtype must be one of ${dtypes.join(', ')} on cuda, got '${dtype}'`);
  const figures = await onGpu().measureGpu({ ...request, dtype: known, args });
  if (request.triton) {
    const { addTriton } = require('./gpu/triton') as typeof import('./gpu/triton');
    await addTriton(figures, request.triton, request.shapes);
  }
  return figures;
}

async function measureOnCpu(request: Request, args: readonly string[]) {
  const { families, peers, dtype = 'float32', shapes, threads, json } = request;
  if (threads !== undefined) (require('../lib') as typeof import('../lib')).setThreads(threads);
  const keep = json === undefined ? {} : { keep: (run: object) => writeRun(json, run) };
  return onCpu().measureCpu({ families, peers, setting: { dtype, ...(shapes ? { shapes } : {}) }, args, ...keep });
}

/**
 * @param program what the help calls it
 * @returns the exit code
 */
export async function bench(args: readonly string[], program = 'flowmap bench'): Promise<number> {
  if (args[0] === 'diff') compare(args.slice(1));
  else if (args[0] === 'report') show(args.slice(1));
  else await measure(args, program);
  return 0;
}

async function measure(args: readonly string[], program: string): Promise<void> {
  const request = readRequest(args.map((each) => (each === '-h' ? '--help' : each)));
  if (!request) {
    const { benches } = onCpu();
    const families = { cpu: benches('ops'), peers: benches('peers'), cuda: onGpu().gpuFamilies() };
    console.log(helpText(families, program));
    return;
  }
  const run = await (request.device === 'cuda' ? measureOnGpu(request, args) : measureOnCpu(request, args));
  if (request.json) writeRun(request.json, run);
  if (request.line.text('report') || request.line.text('markdown')) writeReports(runOf(run, 'this run'), request.line);
  if ('failed' in run && run.failed.length > 0) throw new Error(`${run.failed.length} subjects or groups failed`);
}
