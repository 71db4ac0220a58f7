// How a process with work in its queues ends: at once, without a crash, however it is told to. Children run the
// compiled package, as a user's program does.
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const entry = JSON.stringify(join(__dirname, '..', '..', 'dist', 'lib', 'index.js'));
// Far more work than any test may last: each op of the chain streams 128 MB.
const flood = `
  const { full, sin, tensor, add } = require(${entry});
  function flood(ops = 4000) {
    let x = full([4096, 4096], 0.5);
    for (let i = 0; i < ops; i++) { const y = sin(x); x.dispose(); x = y; }
    return x;
  }`;

interface Outcome {
  /** The exit code, or the signal that ended it. */
  code: number | string | null;
  stdout: string;
  stderr: string;
}

function runNode(source: string, whileRunning?: (kill: (signal: NodeJS.Signals) => void) => void): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['-e', source], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 120_000, // slow machines are slow, not wrong
      killSignal: 'SIGKILL',
    });
    const output = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk) => {
      if (output.stdout === '') whileRunning?.((signal) => child.kill(signal));
      output.stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      output.stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code: code ?? signal, ...output }));
  });
}

function inWorker(body: string, rest: string): string {
  return `
    const { Worker } = require('node:worker_threads');
    const worker = new Worker(${JSON.stringify(body)}, { eval: true });
    ${rest}`;
}

describe('a process', () => {
  it('ends by itself when its program ends, with tensors alive', async () => {
    const { code, stdout, stderr } = await runNode(`${flood}
      globalThis.kept = full([100], 1); console.log(add(globalThis.kept, tensor(1)).dataSync()[0]);`);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '2\n', stderr: '' });
  });

  it('stays alive for a pending read and no longer', async () => {
    const { code, stdout, stderr } = await runNode(`${flood}
      add(full([1 << 20], 1), tensor(1)).data().then((data) => console.log(data.length));`);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${1 << 20}\n`, stderr: '' });
  });

  it('leaves at process.exit with a long queue behind it', async () => {
    const { code, stderr } = await runNode(`${flood} flood(); process.exit(7);`);
    expect({ code, stderr }).toEqual({ code: 7, stderr: '' });
  });

  it.each(['process.exit(3)', "throw new RangeError('mine')"])(
    'leaves by %s in the first product of a dtype',
    async (end) => {
      for (const pause of [1, 3, 6]) {
        const { code } = await runNode(`const { matmul, randn } = require(${entry});
        const a = randn([64, 512], { dtype: 'bfloat16' }), b = randn([512, 512], { dtype: 'bfloat16' });
        a.dataSync(); matmul(a, b); matmul(a, b, { transposeB: true });
        for (const until = performance.now() + ${pause}; performance.now() < until; );
        ${end};`);
        expect(code).toBe(end.startsWith('process') ? 3 : 1);
      }
    },
  );

  it('leaves by an uncaught error with a long queue behind it', async () => {
    const { code, stderr } = await runNode(`${flood} flood(); throw new RangeError('mine');`);
    expect(code).toBe(1);
    expect(stderr).toContain('RangeError: mine');
  });

  it('dies of SIGTERM in the middle of a blocking read', async () => {
    const { code } = await runNode(`${flood} const x = flood(); console.log('go'); x.dataSync();`, (kill) =>
      setTimeout(() => kill('SIGTERM'), 100),
    );
    expect(code).toBe('SIGTERM');
  });

  it('rejects with the error, typed, when an awaited read fails', async () => {
    const { code, stdout, stderr } = await runNode(`
      const flowmap = require(${entry});
      flowmap.setMemoryLimit(2 ** 20);
      flowmap.full([2 ** 20], 1).data().catch((error) => console.log(error instanceof flowmap.OutOfMemoryError));`);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'true\n', stderr: '' });
  });
});

describe('a worker thread', () => {
  const work = `
    const { parentPort } = require('node:worker_threads');
    const { full, add, tensor, memory } = require(${entry});
    const x = add(full([1000], 1), tensor(2));
    parentPort.postMessage([x.dataSync()[999], memory().tensors]);`;

  it('computes beside the main thread, with tensors of its own', async () => {
    const { code, stdout, stderr } = await runNode(
      inWorker(
        work,
        `const { full, memory } = require(${entry});
         const mine = full([3], 4);
         worker.on('message', ([value, tensors]) => console.log(value, tensors, mine.dataSync().join(), memory().tensors));`,
      ),
    );
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '3 3 4,4,4 1\n', stderr: '' });
  });

  it('may be the only one to load the addon, and be followed by another', async () => {
    const { code, stdout, stderr } = await runNode(`
      const { Worker } = require('node:worker_threads');
      const start = (left) => new Worker(${JSON.stringify(work)}, { eval: true })
        .on('message', ([value]) => console.log(value))
        .on('exit', (code) => { if (left > 0) start(left - 1); else console.log('exit', code); });
      start(3);`);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '3\n3\n3\n3\nexit 0\n', stderr: '' });
  });

  it('can be terminated in the middle of its queue, and the main thread goes on', async () => {
    const { code, stdout, stderr } = await runNode(
      inWorker(
        `${flood}
         full([2], 1).data().then(() => flood(30).data());
         setTimeout(() => require('node:worker_threads').parentPort.postMessage('busy'), 50);`,
        `const { full } = require(${entry});
         worker.on('message', async () => {
           await worker.terminate();
           console.log(full([2], 5).dataSync().join());
           process.exit(0);
         });`,
      ),
    );
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '5,5\n', stderr: '' });
  });

  it('can be terminated in the middle of its queue again and again, alone in using flowmap', async () => {
    const body = `${flood}
      flood(8); require('node:worker_threads').parentPort.postMessage('busy');`;
    const { code, stdout, stderr } = await runNode(`
      const { Worker } = require('node:worker_threads');
      const start = (left) => {
        const worker = new Worker(${JSON.stringify(body)}, { eval: true });
        worker.on('message', async () => {
          await worker.terminate();
          if (left > 0) start(left - 1); else console.log('done');
        });
      };
      start(20);`);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'done\n', stderr: '' });
  });

  it('can be terminated while it blocks on a read', async () => {
    const { code, stderr } = await runNode(
      inWorker(
        `${flood}
         const x = flood(); require('node:worker_threads').parentPort.postMessage('busy'); x.dataSync();`,
        `worker.on('message', () => setTimeout(() => process.exit(0), 50));`,
      ),
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('that dies of an error leaves the process whole', async () => {
    const { code, stdout, stderr } = await runNode(
      inWorker(
        `${flood} flood(); throw new Error('mine');`,
        `worker.on('error', (error) => { console.log(error.message); process.exit(0); });`,
      ),
    );
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'mine\n', stderr: '' });
  });
});
