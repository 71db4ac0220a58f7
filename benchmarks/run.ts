// `npm run bench`: measures families of operations, or compares two runs. `npm run bench -- --help` says what there is.
import { describeOptions, type OptionSpec, readLine, UsageError } from './support/commandLine';
import { formatDiff } from './support/diff';
import { readRun, writeRun } from './support/runFile';

const options: Record<string, OptionSpec> = {
  peers: { help: 'beside PyTorch and onnxruntime-node, where they are installed' },
  json: { value: 'file', help: 'writes the figures, and by what they were measured' },
  help: { help: 'this text' },
};

function help(families: readonly string[]): string {
  return [
    'Usage: npm run bench -- [family ...] [options]     measures',
    '       npm run bench -- diff a.json b.json         compares two runs row by row',
    '',
    ...describeOptions(options),
    '',
    `Families: ${families.join(', ')}; all of them unless some are named.`,
  ].join('\n');
}

async function main(args: readonly string[]): Promise<void> {
  if (args[0] === 'diff') {
    const { positionals } = readLine({}, args.slice(1));
    const [a, b] = positionals;
    if (positionals.length !== 2) throw new UsageError(`diff takes two files, got ${positionals.length}`);
    console.log(formatDiff(readRun(a!), readRun(b!)));
    return;
  }
  const line = readLine(options, args);
  const { benches, measureCpu } = require('./cpu') as typeof import('./cpu');
  if (line.flag('help')) {
    console.log(help(benches('ops')));
    return;
  }
  const { head, results } = await measureCpu({ families: line.positionals, peers: line.flag('peers'), args });
  const json = line.text('json');
  if (json) writeRun(json, head, results);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const expected = error instanceof UsageError || (error instanceof Error && error.constructor === Error);
  console.error(expected ? `bench: ${(error as Error).message}` : error);
  process.exit(error instanceof UsageError ? 2 : 1);
});
