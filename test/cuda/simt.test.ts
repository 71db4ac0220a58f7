/** The emulator's own tests: instructions against their definitions, ordinary code, and the runtime it stands in for. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './support/programs';

const root = join(__dirname, '../..');
const emulated = join(root, 'build/cuda-emulated');

interface Case {
  name: string;
  right: boolean;
  error: string;
}

function hasNvcc(): boolean {
  const found = ['/usr/local/cuda', process.env.CUDA_HOME ?? ''].some((home) => existsSync(join(home, 'bin/nvcc')));
  return found || spawnSync('nvcc', ['--version']).status === 0;
}

function run(program: string, environment: Record<string, string> = {}): Map<string, Case> {
  const { stdout, stderr, signal } = spawnSync(join(emulated, 'selftest', program), {
    encoding: 'utf8',
    env: { ...process.env, LD_LIBRARY_PATH: emulated, ...environment },
  });
  const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
  if (signal || lines.length === 0) throw new Error(`${program} ended by ${signal}: ${stderr}`);
  return new Map(lines.map((line) => [JSON.parse(line).name, JSON.parse(line)]));
}

const suite = hasNvcc() ? describe : describe.skip;

suite('the CUDA emulator', () => {
  beforeAll(() => {
    build('simt_selftest');
  }, 600_000);

  test('gives what the ISA defines, instruction by instruction', () => {
    const cases = [...run('instructions').values()];
    expect(cases.filter((each) => !each.right)).toEqual([]);
    expect(cases.length).toBeGreaterThan(95);
  });

  test.each([
    ['in order', {}],
    ['in random order', { SIMT_SEED: '7' }],
    ['on several OS threads', { SIMT_WORKERS: '3', SIMT_SEED: '8' }],
  ])('runs ordinary code %s', (_, environment) => {
    const cases = [...run('ordinary', environment).values()];
    expect(cases.filter((each) => !each.right || each.error !== '')).toEqual([]);
    expect(cases).toHaveLength(7);
  });

  describe('stands in for cuBLAS', () => {
    let cases: Map<string, Case>;
    beforeAll(() => {
      cases = run('cublas', { SIMT_MEMORY: `${64 << 20}` });
    });

    test.each([
      ['products, sums and biases are right', 'multiplies'],
      ['matrices are transposed and batched', 'transposesAndBatches'],
      ['products are computed when their turn in the stream comes', 'worksInTheStreamsOrder'],
      ['misuse is refused at the call', 'refusesMisuse'],
      ['what was in the workspace is lost', 'usesUpTheWorkspace'],
    ])('%s', (_, name) => {
      expect(cases.get(name)).toEqual({ name, right: true, error: '' });
    });

    test.each([
      ['a factor that was never written', 'readsUnwritten', /^A of cublasLtMatmul reads bytes that were never written/],
      ['a result past the end of its memory', 'writesPastTheEnd', /^D of cublasLtMatmul, 12 bytes .* past the end of/],
    ])('%s is reported', (_, name, message) => {
      expect(cases.get(name)?.error).toMatch(message);
    });
  });

  describe('stands in for the runtime', () => {
    let cases: Map<string, Case>;
    beforeAll(() => {
      cases = run('runtime', { SIMT_MEMORY: `${64 << 20}` });
    });

    test.each([
      ['streams run nothing before something waits', 'streamsAreLazy'],
      ['events order two streams', 'twoStreams'],
      ['pinned sources are read late, pageable ones at once', 'copiesReadTheirSource'],
      ['a buffer may go to the device and come back', 'roundTrip'],
      ['blocking streams and the default stream wait for each other', 'defaultStream'],
      ['events measure time', 'eventsTakeTime'],
      ['symbols are copied to and from', 'symbols'],
      ['memory runs out and comes back', 'outOfMemory'],
      ['large shared memory needs its attribute', 'largeSharedMemory'],
      ['impossible launches are refused', 'badLaunches'],
      ['failures stick until a reset', 'failuresStick'],
      ['a kernel that stops nothing is fine', 'noStop'],
      ['several host threads may use it', 'severalThreads'],
      ['a capture collects work, and launching its graph runs it', 'captureRunsNothing'],
      ['a graph copies what is there when it runs', 'replayReadsAnew'],
      ['waiting for a capturing stream is refused and spoils the capture', 'captureRefusesWaits'],
      ['the mode of a capture says what may be called beside it', 'captureModes'],
      ['a capture and work outside of it do not depend on each other', 'captureIsolation'],
      ['captures and graphs are refused in a wrong state', 'captureStates'],
    ])('%s', (_, name) => {
      expect(cases.get(name)).toEqual({ name, right: true, error: '' });
    });

    test.each([
      [
        'a stream that does not wait for another',
        'noWaitForEvent',
        /read of 4 bytes .* never written .*copyOne.*runtime\.cu:\d+/,
      ],
      ['a trap', 'trap', /^trap, kernel .*stop.*runtime\.cu:\d+/],
      ['a kernel of a graph that goes astray', 'graphFaults', /past the end of an allocation of 4 bytes/],
      ['a failed assertion', 'assertion', /runtime\.cu:\d+: .*assertion `how == 3` failed/],
    ])('%s is reported', (_, name, message) => {
      expect(cases.get(name)?.error).toMatch(message);
    });
  });
});
