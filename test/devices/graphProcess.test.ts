// Recordings and the threads and processes around them: who waits for whom, and how all end.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describeOnDevices, devices } from '../support/devices';
import { runNode } from '../support/runNode';

const cuda = devices.find(({ label }) => label.startsWith('cuda'));
const present = cuda !== undefined && cuda.missing === undefined;
const failing = join(__dirname, '..', '..', 'build', 'cuda-emulated', 'failing_runtime.so');
const emulated = cuda?.label === 'cuda-emulated' && present && existsSync(failing);

describeOnDevices('recordings in threads and processes', (device) => {
  const program = `
    const { Worker, parentPort, workerData } = require('node:worker_threads');
    const { add, captureGraph, keep, mul, tensor, memory, synchronize } = require('./lib');
    const options = { device: '${device}' };
    const make = () => captureGraph((x) => mul(add(x, 1), 2));
    const warmed = (n = 3) => {
      const step = make();
      for (let i = 0; i < n; i++) step(tensor([1, 2], options));
      return step;
    };`;
  const withWorker = `const program = ${JSON.stringify(program)};${program}
    const inWorker = (body, workerData) =>
      new Worker("require('./scripts/typescript.cjs');" + program + body, { eval: true, workerData });`;

  it('other threads wait while one records, and compute what they would otherwise', async () => {
    const { code, lines } = await runNode(`${withWorker}
      const flags = new Int32Array(new SharedArrayBuffer(8));
      const worker = inWorker(\`
        const flags = workerData;
        const x = tensor([5], options);
        parentPort.postMessage('ready');
        Atomics.wait(flags, 0, 0);
        const y = add(x, 1);   // waits
        Atomics.store(flags, 1, 1);
        parentPort.postMessage(y.itemSync());\`, flags);
      let recording = false;
      const step = captureGraph((x) => {
        const y = add(x, 1);
        if (recording) {
          Atomics.store(flags, 0, 1);
          Atomics.notify(flags, 0);
          Atomics.wait(flags, 1, 0, 300);
          console.log('went on meanwhile:', Atomics.load(flags, 1));
        }
        return mul(y, 10);
      });
      step(tensor([1], options));
      worker.on('message', (message) => {
        if (message !== 'ready') return console.log(message);
        recording = true;
        console.log(step(tensor([1], options)).itemSync());
        console.log(step(tensor([2], options)).itemSync());
      });`);
    expect({ code, lines: lines.sort() }).toEqual({ code: 0, lines: ['20', '30', '6', 'went on meanwhile: 0'] });
  });

  it('threads record one after the other, each its own', async () => {
    const { code, lines } = await runNode(
      `${withWorker}
      const workers = [1, 2, 3].map((i) => inWorker(\`
        const step = captureGraph((x) => mul(x, \${i}));
        let last;
        for (let k = 0; k < 20; k++) last = step(tensor([k], options));
        parentPort.postMessage(last.itemSync());\`));
      for (const worker of workers) worker.on('message', (value) => console.log(value));
      const step = warmed();
      console.log(step(tensor([4], options)) instanceof Object);`.replace('step(tensor([4]', 'step(tensor([4, 5]'),
    );
    expect({ code, lines: lines.sort() }).toEqual({ code: 0, lines: ['19', '38', '57', 'true'] });
  });

  it('a thread that ends gives its recordings back, also one that is ended while it records', async () => {
    const { code, lines } = await runNode(`${withWorker}
      const run = (body, act) => new Promise((resolve) => {
        const worker = inWorker(body).on('exit', resolve);
        if (act) worker.on('message', () => act(worker));
      });
      (async () => {
        await synchronize('${device}');
        const before = memory('${device}').bytes;
        await run('warmed();');
        await synchronize('${device}');
        console.log(memory('${device}').bytes - before);
        await run(\`
          let count = 0;
          const step = captureGraph((x) => {
            const y = add(x, 1);
            if (count++ > 0) { parentPort.postMessage('recording'); for (;;); }
            return y;
          });
          for (;;) step(tensor([1], options));\`, (worker) => setTimeout(() => worker.terminate(), 50));
        console.log(add(tensor([1], options), 1).itemSync());
        console.log(warmed()(tensor([1, 2], options)).dataSync()[1]);
      })();`);
    expect({ code, lines }).toEqual({ code: 0, lines: ['0', '2', '6'] });
  });

  it('processes with live recordings end, on their own and by process.exit, even inside a step', async () => {
    expect(await runNode(`${program} globalThis.step = warmed();`)).toEqual({ code: 0, lines: [''] });
    expect(await runNode(`${program} warmed(200); process.exit(7);`)).toEqual({ code: 7, lines: [''] });
    expect(
      await runNode(`${program} let n = 0;
        const step = captureGraph((x) => { add(x, 1); if (n++ > 0) process.exit(7); return x; });
        for (;;) step(tensor([1], options));`),
    ).toEqual({ code: 7, lines: [''] });
  });

  (device === 'cpu' ? it.skip : it)(
    'records and replays where every op is waited for, and where no memory is reused',
    async () => {
      const body = `${program} const step = warmed(4); console.log(step(tensor([3, 4], options)).dataSync()[1]);
      step.dispose();`;
      for (const env of [{ FLOWMAP_CUDA_BLOCKING: '1' }, { FLOWMAP_CUDA_CACHE: 'off' }]) {
        expect(await runNode(body, env)).toEqual({ code: 0, lines: ['10'] });
      }
    },
  );
});

(emulated ? describe : describe.skip)('a recording that CUDA fails', () => {
  const preload = process.env.LD_PRELOAD ? `${process.env.LD_PRELOAD}:${failing}` : failing;
  const program = `
    const { AdamW, captureGraph, mul, randn, Generator, memory, synchronizeSync, tensor } = require('./lib');
    const attempt = (f) => { try { return f(); } catch (error) { console.log(error.name + ' | ' + error.message); } };
    const cuda = { device: 'cuda' };
    const generator = new Generator(1);
    const w = tensor([1, 2], cuda);
    const optimizer = new AdamW(new Map([['w', w]]));
    const step = captureGraph((x) => {
      const y = mul(randn([2], { device: 'cuda', generator }), mul(x, x));
      optimizer.update(new Map([['w', y]]));
      return mul(y, w);
    });
    const x = tensor([1, 2], cuda);
    step(x).dispose();
    synchronizeSync('cuda');
    const tell = () => { synchronizeSync('cuda'); console.log(memory('cuda').bytes, generator.state.offset, optimizer.step); };`;

  it('is undone with the reason where the capture fails, in any of its segments, and then made anew', async () => {
    for (const at of [1, 2]) {
      const { code, lines } = await runNode(
        `${program} tell(); attempt(() => step(x)); console.log(step.captured); tell();
        step(x).dataSync(); step(x).dataSync(); console.log(step.captured, optimizer.step);`,
        { LD_PRELOAD: preload, FAIL_AT_END_CAPTURE: String(at) },
      );
      expect(code).toBe(0);
      expect(lines).toHaveLength(5);
      expect(lines[1]).toMatch(
        /^DeviceError \| .*: operation failed due to a previous error during capture \(cudaErrorSt/,
      );
      expect(lines[2]).toBe('false');
      expect(lines[3]).toBe(lines[0]);
      expect(lines[4]).toBe('true 3');
    }
  });

  it('tells a device that is lost in a replay', async () => {
    const { code, lines } = await runNode(
      `${program} step(x).dispose(); attempt(() => step(x).dataSync()); attempt(() => step(x)); step.dispose();
      console.log('goes on');`,
      { LD_PRELOAD: preload, FAIL_AT_LAUNCH: '10' },
    );
    expect(code).toBe(0);
    expect(lines).toEqual([
      expect.stringMatching(/^DeviceError \| captureGraph: cuda:0 failed: an illegal memory access/),
      expect.stringMatching(/^DeviceError \| captureGraph: cuda:0 failed in captureGraph/),
      'goes on',
    ]);
  });
});
