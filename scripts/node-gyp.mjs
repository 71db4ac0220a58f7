#!/usr/bin/env node
// What prebuildify runs in node-gyp's place: stages build/Release/flowmap.node with the libraries it loads, so that the
// prebuild works where they are not installed. Runs in the staging folder. Their licences go along.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const build = join(dirname(dirname(fileURLToPath(import.meta.url))), 'build');
const addon = join(build, 'Release', 'flowmap.node');
const cuda = join(
  build,
  process.env.FLOWMAP_CUDA_TARGETS === 'local' ? 'Release' : 'cuda-prebuild',
  'libflowmap_cuda.so',
);
// Any machine that runs Node has these.
const everywhere = /^(linux-vdso|ld-linux|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+)[.-]/;
const carried = /^(libdnnl|libhwy|libgomp|libOpenCL)\.so/;

function loadedLibraries(file) {
  const lines = execFileSync('ldd', [file], { encoding: 'utf8' }).split('\n');
  return lines
    .map((line) => /^\s*(?:\S*\/)?(\S+) (?:=> (\S+) )?\(0x/.exec(line) ?? /^\s*(\S+) => (not found)/.exec(line))
    .filter((match) => match !== null && !everywhere.test(match[1]))
    .map(([, name, path]) => ({ name, path }));
}

function packageOf(path) {
  const [owner] = execFileSync('dpkg-query', ['-S', path], { encoding: 'utf8' }).split(': ');
  const format = `--showformat=\${Package}\\t\${source:Package} \${source:Version}`;
  const [name, source] = execFileSync('dpkg-query', ['-W', format, owner], { encoding: 'utf8' }).split('\t');
  return { name, source };
}

function licenceOf(path) {
  const { name, source } = packageOf(realpathSync(path));
  const own = readFileSync(`/usr/share/doc/${name}/copyright`, 'utf8');
  const shared = new Set(own.match(/\/usr\/share\/common-licenses\/[A-Za-z]+(?:-\d(?:\.\d)?)?/g) ?? []);
  const texts = [...shared].map((file) => `\n----- ${file}\n\n${readFileSync(file, 'utf8')}`);
  return `Taken unmodified from Debian package ${name}, built from source package ${source}.\n\n${own}${texts.join('')}`;
}

const staging = join('build', 'Release');
rmSync(staging, { recursive: true, force: true });
mkdirSync(staging, { recursive: true });
mkdirSync('licenses', { recursive: true });
copyFileSync(addon, join(staging, 'flowmap.node'));
if (existsSync(join(build, 'Release', 'libflowmap_cuda.so'))) copyFileSync(cuda, join(staging, 'libflowmap_cuda.so'));
for (const { name, path } of loadedLibraries(addon)) {
  if (!carried.test(name) || path === 'not found') {
    throw new Error(
      `prebuild: flowmap.node loads ${name} (${path}), which scripts/node-gyp.mjs does not know to carry`,
    );
  }
  copyFileSync(path, join(staging, name));
  writeFileSync(join('licenses', `${name.split('.')[0]}.txt`), licenceOf(path));
}
