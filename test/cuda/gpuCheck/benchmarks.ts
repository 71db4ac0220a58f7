// benchmarks/gpu.ts in a process of its own; its figures go into the report.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import type { GpuFigures } from '../../../benchmarks/gpu/figures';
import { describeEnd, runChild, typescript } from './child';
import type { Context, Result } from './step';

export async function benchmarks({ emulated, left, file }: Context): Promise<Result> {
  const json = file('benchmarks.json');
  rmSync(json, { force: true });
  const ended = await runChild(process.execPath, typescript('benchmarks/gpu.ts', '--short', '--json', json), {
    milliseconds: left(),
    env: { FLOWMAP_CUDA: emulated ? 'emulated' : undefined },
  });
  const figures = existsSync(json) ? (JSON.parse(readFileSync(json, 'utf8')) as GpuFigures) : undefined;
  rmSync(json, { force: true });
  const lines = ended.stdout.trimEnd().split('\n');
  return {
    outcome: ended.status === 0 && figures ? 'passed' : ended.timedOut ? 'timed out' : 'failed',
    summary: ended.status === 0 ? lines : [...lines, describeEnd(ended)],
    details: figures ?? { error: describeEnd(ended) },
  };
}
