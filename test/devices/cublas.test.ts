// cuBLAS is found, or told missing, at the first product: in processes of their own, whose environment says where.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cublasFeatures } from '../../lib';
import { devices } from '../support/devices';

const root = join(__dirname, '..', '..');
const cuda = devices.find(({ label }) => label.startsWith('cuda'));
const present = cuda !== undefined && cuda.missing === undefined;
const folder = mkdtempSync(join(tmpdir(), 'cublas-'));
afterAll(() => rmSync(folder, { recursive: true }));

function runNode(source: string, env: NodeJS.ProcessEnv = {}): string[] {
  const { stdout, stderr } = spawnSync(process.execPath, ['-r', './scripts/typescript.cjs', '-e', source], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  return (stdout + stderr).trim().split('\n');
}

const program = `
  const { cublasFeatures, linear, matmul, add, tensor, DeviceUnavailableError } = require('./lib');
  const tell = (error) => console.log((error instanceof DeviceUnavailableError) + ' | ' + error.message);
  const x = tensor([1, 2, 3, 4], { shape: [2, 2], device: 'cuda' });`;

/** What is said, by the library itself and by a product, where FLOWMAP_CUBLAS is `named`. */
function refusal(named: string): string {
  const lines = runNode(
    `${program}
    (async () => {
      const [y, z] = [matmul(x, x), linear(x, x)];
      const later = add(x, 1);
      await y.data().catch(tell);
      await add(z, 1).data().catch(tell);
      console.log([...(await later.data())].join());
      console.log(cublasFeatures().found + ' | ' + cublasFeatures().reason);
    })()`,
    { FLOWMAP_CUBLAS: named },
  );
  const reason = lines[0]!.replace(/^true \| matmul: /, '');
  expect(lines).toEqual([`true | matmul: ${reason}`, `true | linear: ${reason}`, '2,3,4,5', `false | ${reason}`]);
  return reason;
}

(present ? describe : describe.skip)('cuBLAS', () => {
  it('is told missing by the op where FLOWMAP_CUBLAS names nothing; what is later is unharmed', () => {
    const nowhere = join(folder, 'nowhere');
    expect(refusal(nowhere)).toBe(`FLOWMAP_CUBLAS is '${nowhere}': ${nowhere} is not there`);
  });

  it('is told missing where FLOWMAP_CUBLAS names a folder without it', () => {
    expect(refusal(folder)).toBe(`FLOWMAP_CUBLAS is '${folder}': ${folder}/libcublasLt.so.13 is not there`);
  });

  it('is refused where FLOWMAP_CUBLAS names something else', () => {
    const text = join(folder, 'text');
    writeFileSync(text, 'no library');
    expect(refusal(text)).toMatch(/^FLOWMAP_CUBLAS is '.*text': .*text cannot be used: .*/);
    const other = join(root, 'build', 'Release', 'libflowmap_cuda.so');
    if (existsSync(other)) expect(refusal(other)).toMatch(/cannot be used: it has no cublasLtGetVersion$/);
  });

  it('is found by a file or a folder, and says its version', () => {
    const { library } = cublasFeatures();
    const linked = join(folder, 'linked');
    mkdirSync(linked);
    symlinkSync(library!, join(linked, 'libcublasLt.so.13'));
    for (const named of [linked, join(linked, 'libcublasLt.so.13')]) {
      const lines = runNode(
        `${program} console.log([...matmul(x, x).dataSync()].join(), JSON.stringify(cublasFeatures()));`,
        { FLOWMAP_CUBLAS: named },
      );
      expect(lines).toHaveLength(1);
      const [values, features] = lines[0]!.split(' ');
      expect(values).toBe('7,10,15,22');
      expect(JSON.parse(features!)).toMatchObject({ found: true, version: expect.stringMatching(/^13\.\d+\.\d+$/) });
    }
  });
});

it('all places that were searched are named where there is none', () => {
  const home = join(folder, 'home');
  const packages = join(home, '.local', 'lib', 'python3.99', 'site-packages');
  mkdirSync(packages, { recursive: true });
  const env = { FLOWMAP_CUBLAS: undefined, FLOWMAP_CUDA: undefined, CUDA_HOME: join(folder, 'toolkit'), HOME: home };
  const [line] = runNode("console.log(JSON.stringify(require('./lib').cublasFeatures()))", env);
  const { found, library, reason } = JSON.parse(line!);
  if (found) {
    expect(library).toContain('libcublasLt.so.13');
  } else if (reason !== 'there is no CUDA library that could use it') {
    for (const place of [
      join(folder, 'toolkit', 'lib64'),
      '/usr/local/cuda/lib64',
      join(packages, 'nvidia/cu13/lib'),
    ]) {
      expect(reason).toContain(place);
    }
    expect(reason).toMatch(/ or along the dynamic linker's path: install cuBLAS 13 .* nvidia-cublas, .*FLOWMAP_CUBLAS/);
  }
});
