// A run killed at any moment resumes, and ends with the same bits as one that was never stopped.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NumericalError, randn, type TrainConfig, tensor, train, validateConfig } from '../../lib';
import { stopAfter, tinyConfig, tinyData, tinyStages } from '../support/tinyStages';

const config: TrainConfig = {
  seed: 3,
  model: { imageSize: 4, patchSize: 2, channels: 1, width: 16, depth: 1, heads: 2, classes: 3, init: 'xavier' },
  stages: [
    { objective: 'flowMatching', steps: 40, batch: 4, lr: 1e-3, ema: 0.9, optimizer: 'radam' },
    { objective: 'tvm', steps: 40, batch: 4, lr: 1e-3, ema: 0.9, cfg: 2, clip: 1 },
  ],
  checkpointEvery: 3,
  logEvery: 5,
};
const script = join(__dirname, '..', 'support', 'trainTiny.ts');
const hook = join(__dirname, '..', '..', 'scripts', 'typescript.cjs');

/** Trains in a process of its own; killed after `milliseconds` unless it ends before. True if it ended by itself. */
function run(out: string, milliseconds: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['-r', hook, script, out, JSON.stringify(config)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let timer: NodeJS.Timeout | null = null;
    // Counted from the first step: starting a process takes its own time.
    child.stdout.once('data', () => {
      timer = setTimeout(() => child.kill('SIGKILL'), milliseconds);
    });
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      if (timer) clearTimeout(timer);
      if (signal === null && code !== 0) reject(new Error(`exit code ${code}`));
      else resolve(signal === null);
    });
  });
}

describe('a training run', () => {
  const folder = mkdtempSync(join(tmpdir(), 'flowmap-train-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('killed again and again ends bit-identical to one never stopped', async () => {
    const [whole, broken] = [join(folder, 'whole'), join(folder, 'broken')];
    expect(await run(whole, 1e9)).toBe(true);
    let kills = 0;
    for (let attempt = 0; ; attempt++) {
      if (attempt === 60) throw new Error('never finished');
      // Longer each time: a slow machine must get to a checkpoint, too.
      if (await run(broken, (40 + 37 * ((attempt * 7) % 11)) * 1.08 ** attempt)) break;
      kills += 1;
    }
    expect(kills).toBeGreaterThan(0);
    for (const file of ['checkpoint.safetensors', 'stage0.safetensors', 'stage1.safetensors']) {
      expect(readFileSync(join(broken, file)).equals(readFileSync(join(whole, file)))).toBe(true);
    }
    const steps = (out: string) =>
      readFileSync(join(out, 'metrics.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => (({ step, loss }) => [step, loss])(JSON.parse(line)));
    expect(steps(broken).map(([step]) => step)).toEqual(steps(whole).map(([step]) => step));
  }, 300_000);

  it('stops when told to, and refuses to resume another configuration', async () => {
    const out = join(folder, 'stopped');
    const data = { images: randn([8, 1, 4, 4]), labels: tensor(Int32Array.from([0, 1, 2, 0, 1, 2, 0, 1])) };
    const stop = new AbortController();
    const result = await train(config, data, { out, quiet: true, signal: stop.signal, onMetrics: () => stop.abort() });
    expect(result.finished).toBe(false);
    expect(result.step).toBeLessThan(80);
    await expect(train({ ...config, seed: 4 }, data, { out, quiet: true, resume: true })).rejects.toThrow(
      /another configuration/,
    );
    const rest = await train(config, data, { out, quiet: true, resume: true });
    expect(rest).toMatchObject({ finished: true, step: 80 });
  });

  it.each([true, false])(
    'whose loss is not finite fails, keeping checkpoint and lines, recorded: %s',
    async (record) => {
      const out = join(folder, `not-finite-${record}`);
      const data = tinyData();
      const tiny = { ...tinyConfig({ ...tinyStages.imm, steps: 9 }), checkpointEvery: 3 };
      const stopped = await train(tiny, data, { out, quiet: true, record, signal: stopAfter(3) });
      stopped.net.dispose();
      const [checkpoint, metrics] = ['checkpoint.safetensors', 'metrics.jsonl'].map((name) => join(out, name));
      const before = [checkpoint!, metrics!].map((file) => readFileSync(file));
      const broken = { ...data, images: data.images.mul(Number.NaN) };
      await expect(train(tiny, broken, { out, quiet: true, record, resume: true })).rejects.toThrow(NumericalError);
      for (const [i, file] of [checkpoint!, metrics!].entries()) {
        expect(readFileSync(file).equals(before[i]!)).toBe(true);
      }
      if (existsSync('/proc/self/fd')) {
        const open = readdirSync('/proc/self/fd').flatMap((fd) => {
          const link = `/proc/self/fd/${fd}`;
          return existsSync(link) ? [readlinkSync(link)] : []; // a file may be closed meanwhile
        });
        expect(open.filter((file) => file.startsWith(out))).toEqual([]);
      }
      const rest = await train(tiny, data, { out, quiet: true, record, resume: true });
      expect(rest).toMatchObject({ finished: true, step: 9 });
      rest.net.dispose();
    },
  );

  it.each([
    ['an unknown key', { ...config, sead: 1 }, /config.sead is unknown; did you mean 'seed'\?/],
    [
      'an unknown key of a stage',
      { ...config, stages: [{ ...config.stages[0], warmpu: 1 }] },
      /config.stages.0.warmpu is unknown; did you mean 'warmup'\?/,
    ],
    [
      'an unknown objective',
      { ...config, stages: [{ ...config.stages[0], objective: 'gan' }] },
      /objective must be one of flowMatching, tvm, imm, consistency, meanFlow, drifting, got "gan"/,
    ],
    [
      'no steps',
      { ...config, stages: [{ ...config.stages[0], steps: 0 }] },
      /steps must be an integer of at least 1, got 0/,
    ],
    [
      'text for a number',
      { ...config, model: { ...config.model, width: '16' } },
      /config.model.width must be a finite number, got "16"/,
    ],
    [
      'an unknown optimiser',
      { ...config, stages: [{ ...config.stages[0], optimizer: 'sgd' }] },
      /config.stages.0.optimizer must be 'adamw' or 'radam', got "sgd"/,
    ],
    ['no stages', { ...config, stages: [] }, /config.stages must be a list of stages/],
  ])('refuses %s', (_, value, message) => {
    expect(() => validateConfig(value)).toThrow(message);
  });
});
