// `node -r ./scripts/typescript.cjs benchmarks/gpu.ts [--only pattern] [--short] [--json out.json]`: the CUDA kernels, as
// `npm run bench -- --device cuda` measures them, where nothing may be set up first (gpu:check).
import { measureGpu } from './gpu/measure';
import { readLine } from './support/commandLine';
import { writeRun } from './support/runFile';

async function main(args: readonly string[]): Promise<void> {
  const line = readLine(
    { json: { value: 'file', help: '' }, only: { value: 'pattern', help: '' }, short: { help: '' } },
    args,
  );
  const figures = measureGpu({
    families: line.positionals,
    only: line.text('only'),
    short: line.flag('short'),
    args,
  });
  const json = line.text('json');
  if (json) writeRun(json, figures);
  if (figures.failed.length > 0) throw new Error(`${figures.failed.length} subjects or groups failed`);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
