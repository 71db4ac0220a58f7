// `npm run bench`: measures families of operations, compares two runs, or shows one. `npm run bench -- --help` says what there is.
import { writeFileSync } from 'node:fs';
import { markdownOf } from './report/markdown';
import { pageOf } from './report/page';
import { describeOptions, type Line, type OptionSpec, readLine, UsageError } from './support/commandLine';
import { formatDiff } from './support/diff';
import { type Run, readRun, runOf, writeRun } from './support/runFile';

const reports: Record<string, OptionSpec> = {
  report: { value: 'file.html', help: 'writes a page with tables and charts' },
  markdown: { value: 'file.md', help: 'writes the tables' },
};

const options: Record<string, OptionSpec> = {
  peers: { help: 'beside PyTorch and onnxruntime-node, where they are installed' },
  json: { value: 'file', help: 'writes the figures, and by what they were measured' },
  ...reports,
  help: { help: 'this text' },
};

function help(families: readonly string[]): string {
  return [
    'Usage: npm run bench -- [family ...] [options]     measures',
    '       npm run bench -- diff a.json b.json         compares two runs row by row',
    '       npm run bench -- report run.json [--report file.html] [--markdown file.md]',
    '                                                   shows a run measured before',
    '',
    ...describeOptions(options),
    '',
    `Families: ${families.join(', ')}; all of them unless some are named.`,
  ].join('\n');
}

function writeReports(run: Run, line: Line): void {
  const [page, markdown] = [line.text('report'), line.text('markdown')];
  if (page) writeFileSync(page, pageOf(run));
  if (markdown) writeFileSync(markdown, markdownOf(run));
}

function compare(args: readonly string[]): void {
  const { positionals } = readLine({}, args);
  const [a, b] = positionals;
  if (positionals.length !== 2) throw new UsageError(`diff takes two files, got ${positionals.length}`);
  console.log(formatDiff(readRun(a!), readRun(b!)));
}

function show(args: readonly string[]): void {
  const line = readLine(reports, args);
  if (line.positionals.length !== 1) throw new UsageError(`report takes one file, got ${line.positionals.length}`);
  if (!line.text('report') && !line.text('markdown')) {
    throw new UsageError('report needs --report <file.html>, --markdown <file.md> or both');
  }
  writeReports(readRun(line.positionals[0]!), line);
}

async function main(args: readonly string[]): Promise<void> {
  if (args[0] === 'diff') return compare(args.slice(1));
  if (args[0] === 'report') return show(args.slice(1));
  const line = readLine(options, args);
  // Late: the rest does without the addon.
  const { benches, measureCpu } = require('./cpu') as typeof import('./cpu');
  if (line.flag('help')) return console.log(help(benches('ops')));
  const run = await measureCpu({ families: line.positionals, peers: line.flag('peers'), args });
  const json = line.text('json');
  if (json) writeRun(json, run);
  writeReports(runOf(run, 'this run'), line);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const expected = error instanceof UsageError || (error instanceof Error && error.constructor === Error);
  console.error(expected ? `bench: ${(error as Error).message}` : error);
  process.exit(error instanceof UsageError ? 2 : 1);
});
