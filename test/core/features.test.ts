// What the library says of the machine, and the number of threads, which belongs to the whole process.
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { ArgumentError, features, randn, setThreads, threads } from '../../lib';

const root = join(__dirname, '../..');

/** Runs a program of one line in a process of its own. */
function run(code: string, env: NodeJS.ProcessEnv = {}) {
  const { FLOWMAP_THREADS: _, OMP_NUM_THREADS: __, ...inherited } = process.env;
  return spawnSync(process.execPath, ['-r', './scripts/typescript.cjs', '-e', code], {
    cwd: root,
    encoding: 'utf8',
    env: { ...inherited, ...env },
  });
}

const print = "console.log(require('./lib').threads())";

describe('features', () => {
  it('names the libraries, the SIMD level and the threads', () => {
    const found = features();
    expect(found.oneDnn).toMatch(/^\d+\.\d+\.\d+$/);
    expect(found.highway).toMatch(/^\d+\.\d+\.\d+$/);
    expect(found.simd).toMatch(/^[A-Z][A-Za-z0-9_]+$/);
    expect(typeof found.bfloat16).toBe('boolean');
    expect(found.threads).toBe(threads());
  });
});

describe('setThreads', () => {
  const before = threads();
  afterEach(() => setThreads(before));

  it('takes effect on the worker: so many threads of the process run', () => {
    const code = `
      const { setThreads, threads, randn } = require('./lib');
      const { readdirSync } = require('node:fs');
      const running = () => readdirSync('/proc/self/task').length;
      const work = () => randn([600, 600]).exp().sum().item();
      (async () => {
        setThreads(1);
        await work();
        const one = running();
        setThreads(3);
        await work();
        console.log(threads(), running() - one);
      })();`;
    expect(run(code).stdout.trim()).toBe('3 2');
  });

  it('holds for the worker that starts anew when the last JavaScript thread with the library has ended', () => {
    const code = `
      const { Worker } = require('node:worker_threads');
      const start = (body) => new Promise((resolve, reject) => {
        const program = "const { setThreads, threads, randn } = require('./lib');" + body;
        new Worker(program, { eval: true }).on('error', reject).on('exit', resolve);
      });
      const work = 'await randn([600, 600]).exp().sum().item();';
      const count = "require('node:fs').readdirSync('/proc/self/task').length";
      (async () => {
        await start('(async () => { setThreads(3);' + work + '})()');
        await start('(async () => { const before = ' + count + ';' + work +
          'console.log(threads(), ' + count + ' - before); })()');
      })();`;
    // The device's worker and two more.
    expect(run(code).stdout.trim()).toBe('3 3');
  });

  it('leaves elementwise results and sums the same bits', () => {
    const x = randn([2571, 123]);
    const results = [1, 2, 3].map((n) => {
      setThreads(n);
      expect(threads()).toBe(n);
      return x.exp().add(1).sum([0]).dataSync();
    });
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it.each([0, -1, 1025, 1.5, Number.NaN, '2', undefined, null])('refuses %p and keeps the number', (n) => {
    expect(() => setThreads(n as number)).toThrow(ArgumentError);
    expect(threads()).toBe(before);
  });
});

describe('FLOWMAP_THREADS', () => {
  it('decides the number', () => {
    expect(run(print, { FLOWMAP_THREADS: '7' }).stdout.trim()).toBe('7');
  });

  it('left out, the number is within what the process may use', () => {
    const found = Number(run(print).stdout);
    expect(found).toBeGreaterThanOrEqual(1);
    expect(found).toBeLessThanOrEqual(availableParallelism());
    expect(Number(run(print, { OMP_NUM_THREADS: '1' }).stdout)).toBe(1);
  });

  it.each(['0', '1025', '4x', ' 4', '', '1e3', '99999999999999999999'])(
    "'%s' is refused as the library loads",
    (text) => {
      const { status, stderr } = run(print, { FLOWMAP_THREADS: text });
      expect(status).toBe(1);
      expect(stderr).toContain(
        `ArgumentError: threads: FLOWMAP_THREADS must be an integer from 1 to 1024, got '${text}'`,
      );
    },
  );
});
