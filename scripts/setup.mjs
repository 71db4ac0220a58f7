#!/usr/bin/env node
// Makes a clone ready to use: system packages, npm packages, the native build, dist. Does only what is missing or stale
// and says nothing when nothing is; `npm test` and `npm run demo` run it first.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
// `npm run build`: let cmake and tsc decide for themselves what to do.
const always = process.argv.includes('--always');

const managers = [
  {
    program: 'apt-get',
    install: ['apt-get', 'install', '-y', '--no-install-recommends'],
    refresh: ['apt-get', 'update', '-qq'],
    packages: { cmake: 'cmake', 'c++': 'g++', make: 'make', oneDNN: 'libdnnl-dev', Highway: 'libhwy-dev' },
  },
  {
    program: 'dnf',
    install: ['dnf', 'install', '-y'],
    packages: { cmake: 'cmake', 'c++': 'gcc-c++', make: 'make', oneDNN: 'onednn-devel', Highway: 'highway-devel' },
  },
  {
    program: 'pacman',
    install: ['pacman', '-S', '--needed', '--noconfirm'],
    packages: { cmake: 'cmake', 'c++': 'gcc', make: 'make', oneDNN: 'onednn', Highway: 'highway' },
  },
  {
    program: 'brew',
    unprivileged: true,
    install: ['brew', 'install'],
    packages: { cmake: 'cmake', make: 'make', oneDNN: 'onednn', Highway: 'highway', OpenMP: 'libomp' },
  },
];

const say = (text) => console.error(`setup: ${text}`);

function stop(text) {
  say(text);
  process.exit(1);
}

function has(program) {
  return spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;
}

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { stdio: ['ignore', 2, 2], ...options });
  if (result.error) stop(`${command} could not be run: ${result.error.message}`);
  return result;
}

function must(command, args) {
  const { status } = run(command, args);
  if (status !== 0) stop(`'${[command, ...args].join(' ')}' failed`);
}

function installSystemPackages(missing) {
  const manager = managers.find(({ program }) => has(program));
  const packages = missing.map((name) => manager?.packages[name]).filter((name) => name !== undefined);
  if (!manager || packages.length < missing.length) {
    stop(`this machine lacks ${missing.join(', ')}; install them with its package manager, then run this again`);
  }
  const isRoot = process.getuid?.() === 0;
  const sudo = isRoot || manager.unprivileged ? [] : ['sudo'];
  const install = [...sudo, ...manager.install, ...packages];
  const allowed = sudo.length === 0 || (has('sudo') && run('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0);
  if (!allowed) stop(`this machine lacks ${missing.join(', ')}. Type:\n\n  ${install.join(' ')}\n`);
  say(`installing ${packages.join(' ')} with ${manager.program}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const command = ([program, ...args]) => run(program, args, { env }).status;
  if (manager.refresh) command([...sudo, ...manager.refresh]);
  if (command(install) !== 0) stop(`'${install.join(' ')}' failed`);
}

// Compared by content, so that a checkout, a copy or a touch alone rebuilds nothing.
function digest(paths) {
  const hash = createHash('sha256');
  for (const path of paths) {
    const files = existsSync(path) ? filesUnder(path) : [];
    for (const file of files) hash.update(`${file}\0`).update(readFileSync(file)).update('\0');
  }
  return hash.digest('hex');
}

function filesUnder(path) {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    return entries
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap((entry) => (entry.isDirectory() ? filesUnder(join(path, entry.name)) : [join(path, entry.name)]));
  } catch (error) {
    if (error.code === 'ENOTDIR') return [path];
    throw error;
  }
}

function whenStale({ name, inputs, output, refresh }) {
  const stamp = join('build', `${name}.sha256`);
  const wanted = digest(inputs);
  const fresh = existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted;
  if (fresh && !always) return;
  rmSync(stamp, { force: true });
  refresh();
  mkdirSync('build', { recursive: true });
  writeFileSync(stamp, wanted);
}

function npmPackagesAreFresh() {
  const installed = join('node_modules', '.package-lock.json');
  if (!existsSync(installed)) return false;
  const have = JSON.parse(readFileSync(installed, 'utf8')).packages;
  const want = JSON.parse(readFileSync('package-lock.json', 'utf8')).packages;
  return Object.entries(want).every(
    ([path, { version, optional }]) => path === '' || optional || have[path]?.version === version,
  );
}

function buildNative() {
  const tools = [['cmake'], ['c++', 'g++', 'clang++'], ['make', 'ninja']];
  const missing = tools.filter((names) => !process.env.CXX?.length && !names.some(has)).map(([name]) => name);
  if (missing.length > 0) installSystemPackages(missing);
  const cmakeJs = join('node_modules', 'cmake-js', 'bin', 'cmake-js');
  const configure = () => run(process.execPath, [cmakeJs, 'configure'], { stdio: 'pipe', encoding: 'utf8' });
  let { status, stdout, stderr } = configure();
  const lacks = /flowmap lacks: (.+)/.exec(`${stdout}${stderr}`)?.[1];
  if (status !== 0 && lacks) {
    installSystemPackages(lacks.trim().split(' '));
    ({ status, stdout, stderr } = configure());
  }
  if (status !== 0) stop(`cmake could not configure the native build:\n${stdout}${stderr}`);
  say('building the native addon');
  process.env.CMAKE_BUILD_PARALLEL_LEVEL ??= String(availableParallelism());
  must('cmake', ['--build', 'build', '--config', 'Release']);
}

if (Number(process.versions.node.split('.')[0]) < 20) stop(`Node 20 or newer is needed, this is ${process.version}`);

if (!npmPackagesAreFresh()) {
  say('installing npm packages');
  must('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
}

whenStale({
  name: 'native',
  inputs: ['csrc', 'cmake', 'test/cuda', 'CMakeLists.txt'],
  output: join('build', 'Release', 'flowmap.node'),
  refresh: buildNative,
});

whenStale({
  name: 'typescript',
  // Of the examples, what the benchmarks share with them.
  inputs: [
    ...['lib', 'typings', 'benchmarks', 'examples'],
    ...['tsconfig.json', 'tsconfig.build.json', join('scripts', 'compile.mjs')],
  ],
  output: join('dist', 'lib', 'index.js'),
  refresh: () => {
    say('compiling TypeScript');
    must('npm', ['run', '--silent', 'build:ts']);
  },
});
