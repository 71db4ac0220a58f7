// `npm run gpu:check`: everything that only a machine with a GPU can say (test/cuda/gpuCheck). Here is what must be there
// before TypeScript can be read; the GPU's machine needs node, the tracked files, node_modules and the build, nothing else.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);

if (process.argv.includes('--prepare')) {
  const { status } = spawnSync(process.execPath, [join('scripts', 'setup.mjs')], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
} else if (!existsSync(join('node_modules', '@swc', 'core'))) {
  console.error(
    "gpu:check lacks node_modules: run 'npm run gpu:check -- --prepare' where npm is; they travel with the tree",
  );
  process.exit(1);
}
const require = createRequire(import.meta.url);
require('./typescript.cjs');
require('../test/cuda/gpuCheck/main.ts');
