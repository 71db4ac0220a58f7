// compute-sanitizer over every kernel family once. Every tensor gets a block of its own, of the exact size, so that a stray
// access leaves it.
import { existsSync, realpathSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { describeEnd, runChild, typescript } from './child';
import { readFindings, type SanitizerFindings } from './sanitizerReport';
import { type Context, type Outcome, type Result, worst } from './step';

const tools = ['memcheck', 'racecheck', 'synccheck', 'initcheck'] as const;
const subset = join('test', 'cuda', 'gpuCheck', 'runFamilies.ts');

export function findSanitizer(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const path = (env.PATH ?? '').split(delimiter).filter(Boolean);
  const nvcc = path.map((folder) => join(folder, 'nvcc')).find((file) => existsSync(file));
  const homes = [env.CUDA_HOME, env.CUDA_PATH, nvcc && join(dirname(realpathSync(nvcc)), '..'), '/usr/local/cuda'];
  const folders = homes
    .filter((home): home is string => Boolean(home))
    .flatMap((home) => [join(home, 'bin'), join(home, 'compute-sanitizer'), join(home, 'extras', 'compute-sanitizer')]);
  return [...path, ...folders].map((folder) => join(folder, 'compute-sanitizer')).find((file) => existsSync(file));
}

interface ToolResult extends SanitizerFindings {
  tool: string;
  outcome: Outcome;
  end?: string;
}

/** Kernels that are not taken by default are, too, where a call allows it. */
const everyKernel = { FLOWMAP_CUDA_CACHE: 'off', FLOWMAP_HOPPER: 'fused' };

async function runTool(sanitizer: string, tool: string, milliseconds: number): Promise<ToolResult> {
  const ended = await runChild(
    sanitizer,
    ['--tool', tool, '--print-limit', '50', '--error-exitcode', '86', process.execPath, ...typescript(subset)],
    { milliseconds, env: { FLOWMAP_CUDA: undefined, ...everyKernel } },
  );
  const findings = readFindings(`${ended.stdout}\n${ended.stderr}`);
  const right = ended.status === 0 && findings.errors === 0;
  const outcome = right ? 'passed' : ended.timedOut ? 'timed out' : 'failed';
  return { tool, outcome, ...findings, ...(right ? {} : { end: describeEnd(ended) }) };
}

function toolLines({ tool, outcome, errors, warnings, reports, end }: ToolResult): string[] {
  const counts = errors === undefined ? 'no summary' : `${errors} errors${warnings ? `, ${warnings} warnings` : ''}`;
  const first = reports.map((report) => report.split('\n').slice(0, 3).join(' | '));
  return [`${tool}: ${outcome}, ${counts}`, ...first, ...(end && errors === undefined ? [end] : [])];
}

/** In a dry run the emulator, which finds the same kinds of errors, runs the subset in the tools' place. */
async function emulatedSubset(milliseconds: number): Promise<Result> {
  const env = { FLOWMAP_CUDA: 'emulated', ...everyKernel };
  const ended = await runChild(process.execPath, typescript(subset), { milliseconds, env });
  const end = describeEnd(ended);
  return {
    outcome: ended.status === 0 ? 'passed' : ended.timedOut ? 'timed out' : 'failed',
    summary: [`the subset on the emulator, without compute-sanitizer: ${end}`],
    details: { tool: 'emulator', end },
  };
}

export async function sanitizer({ emulated, left }: Context): Promise<Result> {
  if (emulated) return emulatedSubset(left());
  const found = findSanitizer();
  if (!found) {
    const why = 'compute-sanitizer is not on PATH nor in the CUDA folder: nothing was checked';
    return { outcome: 'absent', summary: [why], details: { reason: why } };
  }
  const results: ToolResult[] = [];
  for (const [i, tool] of tools.entries()) results.push(await runTool(found, tool, left() / (tools.length - i)));
  return {
    outcome: worst(results.map(({ outcome }) => outcome)),
    summary: [found, ...results.flatMap(toolLines)],
    details: { sanitizer: found, tools: results },
  };
}
