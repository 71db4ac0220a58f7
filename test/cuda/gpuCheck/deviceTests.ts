// The device tests of jest on the GPU, and on the CPU beside it.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { root } from '../../support/build';
import { parseLines } from '../support/programs';
import { describeEnd, type Ended, runChild } from './child';
import type { Context, Result } from './step';

export interface FileResult {
  file: string;
  passed: number;
  failed: { title: string; message: string }[];
  skipped: string[];
  seconds: number;
}

function testFiles(): string[] {
  return readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => join('test', file))
    .filter((file) => readFileSync(join(root, file), 'utf8').includes('support/devices'))
    .sort();
}

// A message's first lines say what was expected and what came.
const brief = (message: string) =>
  stripVTControlCharacters(message)
    .split('\n')
    .filter((line) => line.trim())
    .slice(0, 6)
    .join(' | ');

export function summarise(files: readonly string[], results: readonly FileResult[], ended: Ended): Result {
  const missing = files.filter((file) => !results.some((result) => result.file === file));
  const failed = results.flatMap((result) => result.failed.map((each) => ({ file: result.file, ...each })));
  const skipped = results.flatMap((result) => result.skipped.map((title) => ({ file: result.file, title })));
  const passed = results.reduce((total, result) => total + result.passed, 0);
  const summary = [
    `${passed} passed, ${failed.length} failed, ${skipped.length} skipped, in ${results.length} of ${files.length} files`,
    ...failed.slice(0, 20).map(({ file, title, message }) => `FAILED ${file}: ${title}: ${brief(message)}`),
    ...skipped.map(({ file, title }) => `skipped ${file}: ${title}`).slice(0, 10),
  ];
  if (missing.length > 0) summary.push(`not finished: ${missing.join(', ')} (${describeEnd(ended)})`);
  const right = failed.length === 0 && missing.length === 0 && ended.status === 0 && passed > 0;
  const late = ended.timedOut && failed.length === 0;
  return {
    outcome: right ? 'passed' : late ? 'timed out' : 'failed',
    summary,
    details: { passed, failed, skipped, missing, files: results.map(({ file, seconds }) => ({ file, seconds })) },
  };
}

export async function deviceTests({ emulated, left, file }: Context): Promise<Result> {
  const files = testFiles();
  const lines = file('tests.jsonl');
  rmSync(lines, { force: true });
  const ended = await runChild(
    process.execPath,
    [
      join('node_modules', 'jest', 'bin', 'jest.js'),
      ...[
        '--selectProjects',
        emulated ? 'cuda-emulated' : 'flowmap',
        '--reporters',
        '<rootDir>/test/cuda/gpuCheck/jestReporter.cjs',
      ],
      ...['--runTestsByPath', ...files],
    ],
    {
      milliseconds: left(),
      env: {
        FLOWMAP_DEVICES: emulated ? 'cuda-emulated' : 'cpu,cuda',
        FLOWMAP_CUDA: undefined,
        GPU_CHECK_RESULTS: lines,
      },
    },
  );
  const results = existsSync(lines) ? parseLines<FileResult>(readFileSync(lines, 'utf8')) : [];
  rmSync(lines, { force: true });
  return summarise(files, results, ended);
}
