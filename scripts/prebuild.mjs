// `npm run prebuild`: makes prebuilds/<platform>, which the published package loads. The build itself is the usual one.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const node = (...args) => execFileSync(process.execPath, args, { stdio: 'inherit' });

node('scripts/setup.mjs');
// The build of a clone has the CUDA kernels for few targets; a prebuild has them for all, where there is nvcc. The check
// of the package itself does without (FLOWMAP_CUDA_TARGETS=local).
const local = process.env.FLOWMAP_CUDA_TARGETS === 'local';
if (!local && existsSync(join('build', 'Release', 'libflowmap_cuda.so'))) {
  execFileSync('cmake', ['--build', 'build', '--config', 'Release', '--target', 'flowmap_cuda_prebuild'], {
    stdio: 'inherit',
  });
}
// prebuildify moves and strips what it finds in build/Release, so it gets copies in a folder of its own.
const staging = join('build', 'prebuild');
const output = join('prebuilds', `${process.platform}-${process.arch}`);
for (const folder of [staging, output]) rmSync(folder, { recursive: true, force: true });
mkdirSync(staging, { recursive: true });
node(
  join('node_modules', 'prebuildify', 'bin.js'),
  ...['--napi', '--strip', '--tag-libc', '--name', 'flowmap'],
  ...['--cwd', staging, '--out', root, '--node-gyp', resolve('scripts', 'node-gyp.mjs')],
);
cpSync(join(staging, 'licenses'), join(output, 'licenses'), { recursive: true });
