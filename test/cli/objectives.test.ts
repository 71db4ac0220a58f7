// Every objective from the command line: trained in place of the file's, resumed, and sampled from as it was trained.
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Generator,
  immMapping,
  loadCheckpoint,
  loadSafetensors,
  nn,
  randn,
  type Stage,
  sampleEuler,
  sampleFlowMap,
  samplePushforward,
  sampleRestart,
  saveSafetensors,
  type Tensor,
  tensor,
  tidy,
} from '../../lib';
import { type CliResult, runCli, startCli } from '../support/runCli';
import { model, tinyData } from '../support/tinyStages';

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
// Work as small as this gains nothing from threads, and the processes run side by side.
const env = { FLOWMAP_THREADS: '1' };
const flowmap = (args: readonly string[]) => runCli(args, env);
const train = (out: string, ...args: string[]) => [
  ...['train', '--config', at('tiny.json'), '--out', at(out)],
  ...args,
];
const set = (...assignments: string[]) => assignments.flatMap((text) => ['--set', text]);

const first: Stage = { objective: 'flowMatching', steps: 2, batch: 4, lr: 1e-3, ema: 0.9 };
const shared = { steps: 3, batch: 4, lr: 1e-3, ema: 0.9, labelDropout: 0.2 };
const evaluation = { mapping: { k: 8, eps: 0.01 }, timeScale: 1, inputScaling: false };
const group = { particles: 2, kernel: 'laplace' as const, bandwidths: [0.5] };

/** What the last stage becomes: keys stay where the objective has a use for them. */
const lastStages = {
  imm: { ...shared, ...evaluation, ...group, objective: 'imm' },
  tvm: { ...shared, objective: 'tvm' },
  fm: { ...shared, objective: 'flowMatching' },
  meanflow: { ...shared, objective: 'meanFlow' },
  drifting: { ...shared, ...group, objective: 'drifting' },
  ct: { ...shared, ...evaluation, objective: 'consistency' },
} as const satisfies Record<string, Stage>;
type Name = keyof typeof lastStages;
const names = Object.keys(lastStages) as Name[];
const trained: Record<string, CliResult> = {};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowmap-objectives-'));
  await saveSafetensors(at('data.safetensors'), tinyData());
  const data = { path: at('data.safetensors'), mean: 0.25, std: 0.5 };
  const config = { seed: 5, model, data, stages: [first, lastStages.imm], checkpointEvery: 20, logEvery: 1 };
  await writeFile(at('tiny.json'), JSON.stringify(config));
  const runs = [
    ...names.map((name) => [name, '--objective', name]),
    ['guided', '--objective', 'tvm', ...set('model.guidance=true', 'stages.1.doScaleParam=true')],
    ['classless', ...set('model.classes=0')],
  ];
  const results = await Promise.all(runs.map(([out, ...args]) => flowmap(train(out!, ...args))));
  for (const [i, result] of results.entries()) trained[runs[i]![0]!] = result;
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('flowmap train --objective', () => {
  it.each(names)('%s trains the last stage so, and leaves out what that has no use for', async (name) => {
    const checkpoint = at(name, 'checkpoint.safetensors');
    expect(trained[name]).toEqual({ code: 0, stderr: '', stdout: `trained 5 steps: ${checkpoint}\n` });
    const { state } = await loadCheckpoint(checkpoint);
    expect(state).toMatchObject({ stage: 2, step: 0 });
    expect((state as unknown as { config: { stages: Stage[] } }).config.stages).toEqual([first, lastStages[name]]);
    const lines = (await readFile(at(name, 'metrics.jsonl'), 'utf8')).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toMatchObject(
      [0, 0, 1, 1, 1].map((stage, i) => ({ stage, step: i + 1, loss: expect.any(Number) })),
    );
  });

  it('refuses a name that is none, and says the nearest; and keys that the objective cannot take', async () => {
    const known = 'tvm, imm, fm, meanflow, drifting, ct';
    const cases = [
      { args: ['--objective', 'driftin'], says: `one of ${known}, got 'driftin'; did you mean 'drifting'?` },
      { args: ['--objective', 'meanFlow'], says: "got 'meanFlow'; did you mean 'meanflow'?" },
      { args: ['--objective', '__proto__'], says: `--objective must be one of ${known}, got '__proto__'` },
      { args: ['--objective', 'ct', ...set('stages.1.particles=2')], says: 'config.stages.1.particles is unknown' },
      {
        args: ['--objective', 'drifting', ...set('stages.1.kernel=l2')],
        says: 'config.stages.1.kernel must be one of laplace, rbf, imq, got "l2"',
      },
      {
        args: set('stages.1.particles=3'),
        says: 'config.stages.1.particles must be a divisor of the batch of 4, got 3',
      },
    ];
    const results = await Promise.all(cases.map(({ args }) => flowmap(train('refused', ...args))));
    for (const [i, { says }] of cases.entries()) {
      expect(results[i]!.stderr.trimEnd().split('\n')).toEqual([expect.stringContaining(says)]);
      expect(results[i]!.code).toBe(2);
    }
    expect(existsSync(at('refused'))).toBe(false);
  });

  it('stopped says how to go on, refuses to go on with another, and goes on with its own', async () => {
    const changes = set('stages.1.steps=400');
    const run = startCli(train('stopped', '--objective', 'drifting', ...changes), env);
    while (!existsSync(at('stopped', 'checkpoint.safetensors')) && run.child.exitCode === null) await sleep(5);
    run.child.kill('SIGTERM');
    const { code, stdout, stderr } = await run.result;
    const command = `flowmap ${train('stopped').slice(0, 3).join(' ')} --objective drifting ${changes.join(' ')} --out ${at('stopped')} --resume`;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(stderr).toMatch(/^flowmap: stopped after step \d+; to go on: /);
    expect(stderr.slice(stderr.indexOf('to go on: '))).toBe(`to go on: ${command}\n`);

    const files = () =>
      Promise.all(['checkpoint.safetensors', 'metrics.jsonl'].map((file) => readFile(at('stopped', file))));
    const before = await files();
    const others = await Promise.all(
      [['--objective', 'meanflow'], []].map((args) => flowmap(train('stopped', ...args, ...changes, '--resume'))),
    );
    for (const other of others) {
      expect(other).toMatchObject({ code: 1, stdout: '' });
      expect(other.stderr).toContain(
        `${at('stopped', 'checkpoint.safetensors')} is of a run with another configuration`,
      );
    }
    for (const [i, content] of (await files()).entries()) expect(content.equals(before[i]!)).toBe(true);

    const whole = { code: 0, stderr: '', stdout: `trained 402 steps: ${at('stopped', 'checkpoint.safetensors')}\n` };
    expect(await flowmap(command.split(' ').slice(1))).toEqual(whole);
    // There is nothing left to do, which is no mistake.
    expect(await flowmap(command.split(' ').slice(1))).toEqual(whole);
  });
});

interface Asked {
  noise: Tensor;
  labels: Tensor | null;
  steps: number;
  cfg: number;
  generator: Generator;
}

const mapping = immMapping({ ...evaluation.mapping, sigmaData: 1 });
const asTrained = { mapping, timeScale: 1, inputScaling: false };
const jumps = (net: nn.DiT, { noise, steps, labels }: Asked) => sampleFlowMap(net, noise, { steps, labels });
const forward = (net: nn.DiT, { noise, steps, labels, cfg }: Asked) =>
  samplePushforward(net, noise, { ...asTrained, steps, labels, guidance: cfg }).samples;

/** How samples must be drawn with what a run left. */
const samplers: Record<string, (net: nn.DiT, asked: Asked) => Tensor> = {
  fm: (net, { noise, steps, labels, cfg }) => sampleEuler(net, noise, { steps, labels, cfg }).samples,
  tvm: jumps,
  meanflow: jumps,
  drifting: jumps,
  imm: forward,
  classless: forward,
  ct: (net, { noise, steps, labels, cfg, generator }) =>
    sampleRestart(net, noise, { ...asTrained, steps, labels, guidance: cfg, generator }).samples,
  guided: (net, { noise, steps, labels, cfg }) => {
    const beta = cfg === 1 ? null : tensor(new Float32Array(noise.shape[0]!).fill(1 / cfg));
    return sampleFlowMap(net, noise, { steps, labels, beta, doScaleParam: true });
  },
};

/** Samples in this process, as pixels. */
async function expected(run: string, steps: number, cfg: number): Promise<Tensor> {
  const { tensors, state } = await loadCheckpoint(at(run, 'checkpoint.safetensors'));
  const { config } = state as unknown as { config: { model: nn.DiTOptions } };
  const net = new nn.DiT(config.model);
  net.loadStateDict(new Map([...tensors.model!, ...tensors.ema!]));
  return tidy(() => {
    const generator = new Generator(7);
    const noise = randn([6, 1, 4, 4], { generator });
    const labels = run === 'classless' ? null : tensor(Int32Array.from([0, 1, 2, 0, 1, 2]));
    return samplers[run]!(net, { noise, labels, steps, cfg, generator }).mul(0.5).add(0.25);
  });
}

const sample = (run: string, ...args: string[]) => [
  'sample',
  '--checkpoint',
  at(run, 'checkpoint.safetensors'),
  ...args,
];

describe('flowmap sample', () => {
  it.each([
    { run: 'fm', ways: [[1], [3], [2, 2.5]] },
    { run: 'tvm', ways: [[1], [3]] },
    { run: 'guided', ways: [[1], [2, 2.5]] },
    { run: 'imm', ways: [[1], [3], [2, 2.5]] },
    { run: 'classless', ways: [[2]] },
    { run: 'ct', ways: [[1], [3], [2, 2.5]] },
    { run: 'meanflow', ways: [[1], [3]] },
    { run: 'drifting', ways: [[1]] },
  ])('draws with what $run left as it was trained, in steps and with guidance of $ways', async ({ run, ways }) => {
    const draw = async (steps: number, cfg = 1) => {
      const [png, file] = [at(`${run}-${steps}.png`), at(`${run}-${steps}.safetensors`)];
      const args = ['--steps', String(steps), '--count', '6', '--seed', '7', '--out', png, '--safetensors', file];
      const result = await flowmap(sample(run, ...args, ...(cfg === 1 ? [] : ['--cfg', String(cfg)])));
      const inSteps = `${steps} step${steps === 1 ? '' : 's'}`;
      expect(result).toEqual({ code: 0, stderr: '', stdout: `drew 6 images in ${inSteps}: ${png}\n` });
      expect((await readFile(png)).subarray(0, 8).toString('latin1')).toBe('\x89PNG\r\n\x1a\n');
      const drawn = await loadSafetensors(file);
      expect([...drawn.get('labels')!.dataSync()]).toEqual(
        run === 'classless' ? new Array(6).fill(-1) : [0, 1, 2, 0, 1, 2],
      );
      const images = drawn.get('images')!;
      expect(images.shape).toEqual([6, 1, 4, 4]);
      expect([...images.dataSync()]).toEqual([...(await expected(run, steps, cfg)).dataSync()]);
    };
    await Promise.all(ways.map(([steps, cfg]) => draw(steps!, cfg)));
  });

  it('draws other images with guidance than without', async () => {
    for (const run of ['fm', 'imm', 'ct', 'guided']) {
      const [one, other] = [await expected(run, 2, 1), await expected(run, 2, 2.5)];
      expect([...one.dataSync()]).not.toEqual([...other.dataSync()]);
    }
  });

  it('refuses what a network was not trained for', async () => {
    const cases = [
      { run: 'drifting', args: ['--steps', '2'], says: '--steps must be 1 for a network trained by drifting, got 2' },
      {
        run: 'drifting',
        args: ['--cfg', '2'],
        says: '--cfg: the guidance of a network trained by drifting is fixed by its training',
      },
      {
        run: 'meanflow',
        args: ['--cfg', '2'],
        says: '--cfg: the guidance of a network trained by meanFlow is fixed by its training',
      },
      { run: 'tvm', args: ['--cfg', '2'], says: '--cfg: the network was trained without a guidance embedder' },
      { run: 'classless', args: ['--cfg', '2'], says: '--cfg: the network knows no classes' },
      {
        run: 'classless',
        args: ['--class', '0'],
        says: '--class must be left out: the network knows no classes, got 0',
      },
      { run: 'imm', args: ['--cfg', '-1'], says: "--cfg must be a positive number, got '-1'" },
      { run: 'ct', args: ['--cfg', 'NaN'], says: "--cfg must be a positive number, got 'NaN'" },
    ];
    const results = await Promise.all(
      cases.map(({ run, args }) => flowmap(sample(run, '--out', at('refused.png'), ...args))),
    );
    for (const [i, { says }] of cases.entries()) {
      expect(results[i]!.stderr.trimEnd().split('\n')).toEqual([expect.stringContaining(says)]);
      expect(results[i]!.code).toBe(2);
    }
    expect(existsSync(at('refused.png'))).toBe(false);
  });
});
