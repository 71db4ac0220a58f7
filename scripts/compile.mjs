// `npm run build:ts`: makes dist, of the library and of the benchmarks, which the program `flowmap` offers. Python that other
// libraries are measured by travels beside the compiled code, which finds it as the sources do.
import { execFileSync } from 'node:child_process';
import { copyFileSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
rmSync('dist', { recursive: true, force: true });
const tsc = join('node_modules', 'typescript', 'bin', 'tsc');
execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
for (const file of readdirSync('benchmarks', { recursive: true })) {
  if (file.endsWith('.py')) copyFileSync(join('benchmarks', file), join('dist', 'benchmarks', file));
}
