// `npm run bench`: the benchmarks of this clone, without a build of dist. `npm run bench -- --help` says what there is.
import { bench } from './command';
import { UsageError } from './support/commandLine';

bench(process.argv.slice(2), 'npm run bench --').then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const expected = error instanceof UsageError || (error instanceof Error && error.constructor === Error);
    console.error(expected ? `bench: ${(error as Error).message}` : error);
    process.exit(error instanceof UsageError ? 2 : 1);
  },
);
