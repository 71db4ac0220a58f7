// A device whose context is lost (here: the emulated one, behind a runtime that fails), and how processes with CUDA work
// in their queues end. In processes of their own.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { devices } from '../support/devices';
import { runNode } from '../support/runNode';

const root = join(__dirname, '..', '..');
const failing = join(root, 'build', 'cuda-emulated', 'failing_runtime.so');
const cuda = devices.find(({ label }) => label.startsWith('cuda'));
const present = cuda !== undefined && cuda.missing === undefined;
const emulated = cuda?.label === 'cuda-emulated' && present && existsSync(failing);

(emulated ? describe : describe.skip)('a CUDA device that fails', () => {
  const program = `
    const { tensor, add, sin, synchronize, memory } = require('./lib');
    const tell = (error) => console.log(error.name + ' | ' + error.message);
    const attempt = (f) => { try { f(); console.log('nothing thrown'); } catch (error) { tell(error); } };`;
  const preload = process.env.LD_PRELOAD ? `${process.env.LD_PRELOAD}:${failing}` : failing;

  it('tells it once by the op that did it, then refuses every use; the CPU and JavaScript go on', async () => {
    const { code, lines } = await runNode(
      `${program} (async () => {
        const x = tensor([1, 2], { device: 'cuda' });
        await x.data();
        const y = sin(x);
        await y.data().catch(tell);
        await y.data().catch(tell);
        attempt(() => y.dataSync());
        attempt(() => add(x, x));
        attempt(() => tensor([1], { device: 'cuda' }));
        attempt(() => x.to({ device: 'cpu' }));
        attempt(() => memory('cuda'));
        await synchronize('cuda').catch(tell);
        x.dispose();
        console.log(add(tensor([1]), 1).dataSync()[0]);
      })()`,
      { LD_PRELOAD: preload, FAIL_AT_LAUNCH: '1' },
    );
    const because =
      'an illegal memory access was encountered (cudaErrorIllegalAddress in a kernel or copy before a read)';
    expect(lines).toEqual([
      `DeviceError | sin: cuda:0 failed: ${because}; it needs a new process`,
      ...['data', 'dataSync', 'add', 'tensor', 'to', 'memory', 'synchronize'].map(
        (op) => `DeviceError | ${op}: cuda:0 failed in sin: ${because}; it needs a new process`,
      ),
      '2',
    ]);
    expect(code).toBe(0);
  });

  it('names all that may have done it, and exactly one where every op is waited for', async () => {
    const source = `${program} (async () => {
      const x = tensor([1, 2], { device: 'cuda' });
      await x.data(); // or the wait for its upload meets the failure
      await add(sin(x), x).data().catch(tell);
    })()`;
    const env = { LD_PRELOAD: preload, FAIL_AT_LAUNCH: '1' };
    expect((await runNode(source, env)).lines[0]).toMatch(
      /^DeviceError \| add: .*, in it or in an op before it that no read has waited for \(sin, add\); FLOWMAP_CUDA_BLOCKING=1/,
    );
    expect((await runNode(source, { ...env, FLOWMAP_CUDA_BLOCKING: '1' })).lines[0]).toMatch(
      /^DeviceError \| sin: cuda:0 failed: an illegal memory access was encountered \(\S+ in \S+\); it needs/,
    );
  });
});

(emulated ? describe : describe.skip)('a product on a CUDA device that has failed', () => {
  it('tells the loss of the context, not what cuBLAS makes of it', async () => {
    const { lines } = await runNode(
      `const { tensor, matmul, sin, add } = require('./lib');
      const tell = (error) => console.log(error.name + ' | ' + error.message);
      (async () => {
        const x = tensor([1, 2, 3, 4], { shape: [2, 2], device: 'cuda' });
        await x.data();
        await matmul(sin(x), x).data().catch(tell);
        try { add(x, x); } catch (error) { tell(error); }
      })()`,
      { LD_PRELOAD: process.env.LD_PRELOAD ? `${process.env.LD_PRELOAD}:${failing}` : failing, FAIL_AT_LAUNCH: '1' },
    );
    expect(lines[0]).toMatch(
      /^DeviceError \| matmul: cuda:0 failed: an illegal memory access .* in cublasLtMatmul\), in it or in an op before it that .*\(sin, matmul\)/,
    );
    expect(lines[1]).toMatch(/^DeviceError \| add: cuda:0 failed in matmul: an illegal memory access/);
  });
});

(emulated ? describe : describe.skip)('page-locked memory that runs out', () => {
  it('is told by the op that wanted it, and all goes on', async () => {
    const { code, lines } = await runNode(
      `const { tensor, full, add } = require('./lib');
      const tell = (error) => console.log(error.name + ' | ' + error.message);
      const cuda = { device: 'cuda' };
      (async () => {
        try { tensor(new Float32Array(2 ** 16), cuda); } catch (error) { tell(error); }
        const big = full([2 ** 16], 1, cuda);
        await big.data().catch(tell);
        try { big.dataSync(); } catch (error) { tell(error); }
        await big.to({ device: 'cpu' }).data().catch(tell);
        await full([2 ** 16], 1).to(cuda).sum().data().catch(tell);
        console.log((await add(big.sum(), tensor([1], cuda)).data())[0]);
      })()`,
      {
        LD_PRELOAD: process.env.LD_PRELOAD ? `${process.env.LD_PRELOAD}:${failing}` : failing,
        FAIL_HOST_ALLOC: '262144',
      },
    );
    expect(lines).toEqual([
      ...['tensor', 'data', 'dataSync', 'to', 'to'].map(
        (op) => `OutOfMemoryError | ${op}: no page-locked host memory for a copy of 262144 bytes`,
      ),
      '65537',
    ]);
    expect(code).toBe(0);
  });
});

(present ? describe : describe.skip)('a process with CUDA work in its queues', () => {
  const program = `
    const { Worker, isMainThread, parentPort } = require('node:worker_threads');
    const { tensor, sin } = require('./lib');
    function flood(n = 500) {
      let x = tensor(new Float32Array(1000), { device: 'cuda' });
      for (let i = 0; i < n; i++) x = sin(x).to({ device: 'cpu' }).to({ device: 'cuda' });
      return x;
    }
    const inWorker = (body) => new Worker(
      "require('./scripts/typescript.cjs');" + program + body, { eval: true });`;
  const withWorker = `const program = ${JSON.stringify(program)};${program}`;

  it('goes on where a fault is told while the queue is full and its front waits for another device', async () => {
    const { code, lines } = await runNode(`
      const { tensor, full, add, sin, take } = require('./lib');
      const cuda = { device: 'cuda' };
      const x = tensor([1, 2], cuda);
      let slow = full([2 ** 20], 1, cuda);
      for (let i = 0; i < 3; i++) slow = sin(slow);
      const bad = take(x, tensor([9], { dtype: 'int32', device: 'cuda' }));
      bad.data().catch((error) => console.log(error.message));
      let y = add(x.to({ device: 'cpu' }), 1).to(cuda);
      for (let i = 0; i < 9000; i++) y = add(y, 1);
      y.data().then((data) => console.log(data[0]));`);
    expect({ code, lines }).toEqual({
      code: 0,
      lines: ['take: indices must be in [0, 2), got 9 at position 0', '9002'],
    });
  });

  it('leaves at process.exit', async () => {
    expect(await runNode(`${program} flood().data(); process.exit(7);`)).toEqual({ code: 7, lines: [''] });
    expect(await runNode(`${program} flood().data(); setTimeout(() => process.exit(7), 30);`)).toEqual({
      code: 7,
      lines: [''],
    });
  });

  it('stays alive for a pending read and no longer', async () => {
    const { code, lines } = await runNode(`${program} flood(3).data().then((data) => console.log(data.length));`);
    expect({ code, lines }).toEqual({ code: 0, lines: ['1000'] });
  });

  it('computes in worker threads, one after another and beside the main thread', async () => {
    const { code, lines } = await runNode(`${withWorker}
      const start = (left) => inWorker("parentPort.postMessage(flood(2).dataSync().length); flood(20).data();")
        .on('message', (length) => console.log(length))
        .on('exit', (code) => {
          if (left > 0) start(left - 1);
          else console.log('exit', code, flood(1).dataSync().length);
        });
      start(2);`);
    expect({ code, lines }).toEqual({ code: 0, lines: ['1000', '1000', '1000', 'exit 0 1000'] });
  });

  it('outlives a worker thread that is terminated in the middle of its work', async () => {
    const { code, lines } = await runNode(`${withWorker}
      let left = 3;
      const start = () => {
        const worker = inWorker("const x = flood(); parentPort.postMessage('busy'); x.dataSync();");
        worker.on('message', async () => {
          await worker.terminate();
          if (--left > 0) start();
          else { console.log(flood(1).dataSync().length); process.exit(0); }
        });
      };
      start();`);
    expect({ code, lines }).toEqual({ code: 0, lines: ['1000'] });
  });
});
