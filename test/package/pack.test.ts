// The published package: the tarball, installed with scripts off where no clone, no compiler and none of the libraries
// of the build can be reached, loads its prebuild from CommonJS and from ESM, and its types hold for both.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'flowmap-pack-')));
const home = join(folder, 'app');
const installed = join(home, 'node_modules', 'flowmap');

const env = { PATH: process.env.PATH, HOME: folder, PREBUILDS_ONLY: '1' };

// With the CUDA kernels that the clone has: those for every target take long to compile. Given to each process, since what
// a test puts into its own process.env does not reach its children.
const building = { ...process.env, FLOWMAP_CUDA_TARGETS: 'local' };

function npm(cwd: string, ...args: string[]): string {
  return execFileSync('npm', args, { cwd, env: building, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function pack(what: string): string {
  const [made] = JSON.parse(npm(root, 'pack', what, '--ignore-scripts', '--json', '--pack-destination', folder));
  return join(folder, made.filename);
}

function runIn(name: string, source: string): string {
  writeFileSync(join(home, name), source);
  return execFileSync(process.execPath, [name], { cwd: home, env, encoding: 'utf8' }).trim();
}

beforeAll(() => {
  npm(root, 'run', 'prebuild');
  mkdirSync(home);
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'app', private: true }));
  const tarballs = [pack('./node_modules/node-gyp-build'), pack('.')];
  npm(home, 'install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', ...tarballs);
}, 300_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sum = 'add(tensor([1, 2, 3]), tensor([10, 20, 30])).dataSync().join()';

describe('the packed package', () => {
  it('holds what a user needs and no sources, no build files, no scripts to run', () => {
    expect(readdirSync(installed).sort()).toEqual(
      expect.arrayContaining(['LICENSE', 'dist', 'package.json', 'prebuilds']),
    );
    for (const absent of ['csrc', 'lib', 'binding.gyp', 'CMakeLists.txt', 'test', 'benchmarks', 'node_modules']) {
      expect(readdirSync(installed)).not.toContain(absent);
    }
    const files = readdirSync(join(installed, 'dist'), { recursive: true }).map(String);
    expect(files.filter((file) => /\.(ts|mts)$/.test(file) && !/\.d\.m?ts$/.test(file))).toEqual([]);
    expect(files.filter((file) => /(^|\/)test\//.test(file))).toEqual([]);
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
    for (const script of ['preinstall', 'install', 'postinstall']) expect(manifest.scripts?.[script]).toBeUndefined();
  });

  it('loads from require', () => {
    expect(runIn('main.cjs', `const { tensor, add } = require('flowmap');\nconsole.log(${sum});`)).toBe('11,22,33');
  });

  it('loads from import', () => {
    expect(runIn('main.mjs', `import { add, tensor } from 'flowmap';\nconsole.log(${sum});`)).toBe('11,22,33');
  });

  it('is one and the same from both, name by name', () => {
    const source = `import { createRequire } from 'node:module';
      import * as esm from 'flowmap';
      const cjs = createRequire(import.meta.url)('flowmap');
      console.log(Object.keys(cjs).filter((name) => cjs[name] !== esm[name]).join() || 'same', Object.keys(cjs).length > 30);`;
    expect(runIn('same.mjs', source)).toBe('same true');
  });

  it('brings the libraries it was built with', () => {
    const source = `require('flowmap');
      const maps = require('node:fs').readFileSync('/proc/self/maps', 'utf8');
      console.log([...new Set(maps.match(/\\/\\S*(?:flowmap\\.\\S*node|lib(?:dnnl|hwy|gomp|OpenCL)\\.so\\S*)/g))].join('\\n'));`;
    const loaded = runIn('maps.cjs', source).split('\n');
    const prebuild = join(installed, 'prebuilds', `${process.platform}-${process.arch}`);
    for (const library of ['flowmap.', 'libdnnl', 'libhwy', 'libgomp', 'libOpenCL']) {
      expect(loaded.filter((path) => path.startsWith(join(prebuild, library)))).toHaveLength(1);
    }
    expect(loaded).toHaveLength(5);
    const licences = readdirSync(join(prebuild, 'licenses'));
    for (const path of readdirSync(prebuild).filter((name) => name.includes('.so'))) {
      expect(licences).toContain(`${path.split('.')[0]}.txt`);
    }
  });

  it('finds its CUDA library, where it was built with one', () => {
    const source = `const { found, library } = require('flowmap').cudaFeatures(); console.log(found, library);`;
    const built = existsSync(join(root, 'build', 'Release', 'libflowmap_cuda.so'));
    const path = join(installed, 'prebuilds', `${process.platform}-${process.arch}`, 'libflowmap_cuda.so');
    expect(runIn('cuda.cjs', source)).toBe(`${built} ${path}`);
  });

  it('has types for both module systems', () => {
    const source = `import { grad, mul, type Tensor, tensor } from 'flowmap';
      const f = (x: Tensor): Tensor => mul(x, x);
      const g: Tensor = grad(f)(tensor(2));
      // @ts-expect-error a shape is not a string
      tensor([1], { shape: 'x' });
      export { g };`;
    for (const name of ['types.cts', 'types.mts']) writeFileSync(join(home, name), source);
    const compilerOptions = { strict: true, noEmit: true, module: 'node16', target: 'es2022', types: [] };
    const lib = ['es2022', 'esnext.disposable'];
    const config = { compilerOptions: { ...compilerOptions, lib }, files: ['types.cts', 'types.mts'] };
    writeFileSync(join(home, 'tsconfig.json'), JSON.stringify(config));
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    const { stdout } = spawnSync(process.execPath, [tsc], { cwd: home, encoding: 'utf8' });
    expect(stdout).toBe('');
  });

  it('has the program `flowmap`, which finds its addon and knows its version', () => {
    const flowmap = (...args: string[]) =>
      execFileSync(join(home, 'node_modules', '.bin', 'flowmap'), args, { cwd: home, env, encoding: 'utf8' }).trim();
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    expect(flowmap('--version')).toBe(version);
    const report = JSON.parse(flowmap('doctor', '--json'));
    expect([report.flowmap, report.devices[0]]).toEqual([version, { name: 'cpu', available: true }]);
    for (const command of ['train', 'sample', 'import'])
      expect(flowmap(command, '--help')).toContain(`flowmap ${command}`);
  });

  describe('measures with `flowmap bench`', () => {
    const bench = (...args: string[]) =>
      execFileSync(join(home, 'node_modules', '.bin', 'flowmap'), ['bench', ...args], {
        cwd: home,
        env,
        encoding: 'utf8',
      });

    it('every family that the clone measures, by sources that are all there', () => {
      const inClone = execFileSync(
        process.execPath,
        ['-r', './scripts/typescript.cjs', 'benchmarks/run.ts', '--help'],
        {
          cwd: root,
          encoding: 'utf8',
        },
      );
      expect(bench('--help')).toBe(inClone.replaceAll('npm run bench --', 'flowmap bench'));
      const python = readdirSync(join(root, 'benchmarks', 'baselines')).filter((file) => file.endsWith('.py'));
      expect(readdirSync(join(installed, 'dist', 'benchmarks', 'baselines'))).toEqual(expect.arrayContaining(python));
      const loads = `const { readdirSync } = require('node:fs');
        const folder = ${JSON.stringify(join(installed, 'dist', 'benchmarks'))};
        for (const file of readdirSync(folder, { recursive: true })) if (file.endsWith('.js')) require(folder + '/' + file);
        console.log('loaded');`;
      expect(runIn('sources.cjs', loads)).toBe('loaded');
    });

    it('writes, shows and compares runs', () => {
      expect(bench('norm', '--shapes', 'digits', '--json', 'run.json', '--report', 'run.html')).toContain('rmsNorm');
      const run = JSON.parse(readFileSync(join(home, 'run.json'), 'utf8'));
      expect(run).toMatchObject({ commit: 'unknown', command: expect.stringContaining('norm --shapes digits') });
      expect(run.versions.flowmap).toBe(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version);
      expect(readFileSync(join(home, 'run.html'), 'utf8')).toContain('rmsNorm');
      expect(bench('diff', 'run.json', 'run.json')).toContain('0 faster, 0 slower');
      bench('report', 'run.json', '--markdown', 'run.md');
      expect(readFileSync(join(home, 'run.md'), 'utf8')).toContain('## norm');
    });

    it('a GPU only where there is one, and says why not', () => {
      const { status, stderr } = spawnSync(
        join(home, 'node_modules', '.bin', 'flowmap'),
        ['bench', 'softmax', '--device', 'cuda', '--short'],
        { cwd: home, env: { ...env, CUDA_VISIBLE_DEVICES: '' }, encoding: 'utf8' },
      );
      expect([status, stderr]).toEqual([
        1,
        expect.stringMatching(/^flowmap: benchmarks on 'cuda' need a CUDA device: .+\n$/),
      ]);
    });
  });

  it('says what was tried and what to do where it has no build for the machine', () => {
    rmSync(join(installed, 'prebuilds'), { recursive: true });
    const source = `try { require('flowmap'); } catch (error) { console.log(error.name, error.code, error.message); }`;
    const message = runIn('missing.cjs', source);
    expect(message).toMatch(/^LoadError ERR_FLOWMAP_LOAD flowmap: no native addon for /);
    expect(message).toContain(`prebuilds/${process.platform}-${process.arch}: not there`);
    expect(message).toContain("clone its repository and run 'npm run setup'");
  });
});
