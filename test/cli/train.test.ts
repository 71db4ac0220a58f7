// Training and sampling from the command line, with a network and data that take seconds.
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { arange, loadCheckpoint, loadSafetensors, rand, saveSafetensors, type Tensor } from '../../lib';
import { type CliRun, runCli, startCli } from '../support/runCli';

let folder: string;
let config: string;
const at = (...parts: string[]) => join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowmap-cli-'));
  config = at('tiny.json');
  const labels = arange(0, 12, 1, { dtype: 'int32' });
  const images = rand([12, 8, 8]);
  await saveSafetensors(at('data.safetensors'), { images, labels });
  await writeFile(
    config,
    JSON.stringify({
      seed: 5,
      model: { imageSize: 8, patchSize: 4, channels: 1, width: 16, depth: 1, heads: 2, classes: 12, init: 'xavier' },
      data: { path: at('data.safetensors'), mean: 0.5, std: 0.25 },
      stages: [
        { objective: 'flowMatching', steps: 400, batch: 3, lr: 1e-3, ema: 0.9 },
        { objective: 'tvm', steps: 20, batch: 3, lr: 1e-3, ema: 0.9 },
      ],
      checkpointEvery: 20,
      logEvery: 5,
    }),
  );
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const train = (out: string, ...args: string[]) => ['train', '--config', config, '--out', at(out), ...args];

/** Ends what a failed test leaves running. */
async function until(run: CliRun, there: () => boolean): Promise<void> {
  while (!there() && run.child.exitCode === null) await sleep(5);
}

function bits(groups: Record<string, Map<string, Tensor>>) {
  return Object.entries(groups).flatMap(([group, tensors]) =>
    [...tensors].map(([name, x]) => [`${group}/${name}`, [...x.dataSync()]]),
  );
}

describe('flowmap train', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)(
    'stopped by %s and resumed, ends as if it was never stopped',
    async (name) => {
      const whole = await runCli(train(`whole-${name}`));
      expect(whole).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('trained 420 steps') });

      const run = startCli(train(name));
      await until(run, () => existsSync(at(name, 'checkpoint.safetensors')));
      run.child.kill(name);
      const stopped = await run.result;
      expect(stopped.code).toBe(130);
      const line = `to go on: flowmap train --config ${config} --out ${at(name)} --resume`;
      expect(stopped.stderr.trimEnd().split('\n')).toEqual([expect.stringContaining(line)]);
      const { state } = await loadCheckpoint(at(name, 'checkpoint.safetensors'));
      expect(state).toMatchObject({ stage: 0 });

      expect(await runCli(train(name, '--resume', '--quiet'))).toEqual({ code: 0, stdout: '', stderr: '' });
      const [one, other] = await Promise.all(
        [`whole-${name}`, name].map((out) => loadCheckpoint(at(out, 'checkpoint.safetensors'))),
      );
      expect(bits(other!.tensors)).toEqual(bits(one!.tensors));
      const steps = async (out: string) =>
        (await readFile(at(out, 'metrics.jsonl'), 'utf8'))
          .trim()
          .split('\n')
          .map((text) => JSON.parse(text).step);
      expect(await steps(name)).toEqual(await steps(`whole-${name}`));
    },
  );

  it('sets single keys: JSON, or else text', async () => {
    const set = ['stages.0.steps=2', 'stages.1.steps=1', 'seed=9', 'model.init=spectral', 'model.modNorm=true'];
    const { code } = await runCli(train('set', ...set.flatMap((text) => ['--set', text])));
    expect(code).toBe(0);
    const { state } = await loadCheckpoint(at('set', 'checkpoint.safetensors'));
    expect(state).toMatchObject({
      config: { seed: 9, model: { init: 'spectral', modNorm: true }, stages: [{ steps: 2 }, { steps: 1 }] },
    });
  });

  it.each([
    { set: 'sed=1', says: "config.sed is unknown; did you mean 'seed'?" },
    { set: 'stages.0.step=1', says: "config.stages.0.step is unknown; did you mean 'steps'?" },
    { set: 'stages.2.steps=1', says: "--set stages.2.steps: stages has 2 entries and no '2'" },
    { set: 'seed.x=1', says: '--set seed.x: seed is 5' },
    { set: '__proto__.x=1', says: 'config.__proto__ is unknown' },
    { set: 'seed', says: "--set must be key=value, got 'seed'" },
    { set: 'stages..steps=1', says: "--set must be key=value, got 'stages..steps=1'" },
    { set: 'seed=many', says: 'config.seed must be' },
    { set: 'data.std=0', says: 'config.data.std must be a positive number, got 0' },
  ])('refuses --set $set', async ({ set, says }) => {
    const { code, stderr } = await runCli(train('refused', '--set', set));
    expect(stderr).toContain(says);
    expect(code).toBe(2);
    expect(existsSync(at('refused'))).toBe(false);
  });

  it('refuses data that do not fit the network', async () => {
    const refused = async (set: string, says: string) => {
      const { code, stderr } = await runCli(train('refused', '--set', set));
      expect(stderr).toContain(says);
      expect(code).toBe(1);
    };
    await refused('model.imageSize=12', "'images' must have shape [N, 1, 12, 12] for config.model, got [12, 8, 8]");
    await refused('model.classes=11', "'labels' must be in [0, 11), got 11 at index 11");
    await refused(`data.path=${at('nothing')}`, at('nothing'));
    await saveSafetensors(at('empty.safetensors'), { pictures: rand([2, 8, 8]) });
    await refused(`data.path=${at('empty.safetensors')}`, "'images' is missing; it has pictures");
  });

  it('refuses to write over a run, and to resume none', async () => {
    await writeFile(at('notes.txt'), 'no JSON');
    const cases = [
      { args: train('SIGINT'), says: 'has a checkpoint already: --resume goes on from it' },
      { args: train('nowhere', '--resume'), says: 'has no checkpoint' },
      { args: ['train', '--config', at('nothing.json')], says: 'cannot be read' },
      { args: ['train', '--config', at('notes.txt')], says: 'is not JSON' },
    ];
    for (const { args, says } of cases) {
      const { code, stderr } = await runCli(args);
      expect(stderr).toContain(says);
      expect(code).toBe(2);
    }
  });
});

describe('flowmap sample', () => {
  const sample = (...args: string[]) => ['sample', '--checkpoint', at('SIGINT', 'checkpoint.safetensors'), ...args];

  it('draws a grid, and the same one from the same seed', async () => {
    const draw = async (name: string, ...args: string[]) => {
      const files = ['--out', at(`${name}.png`), '--safetensors', at(`${name}.safetensors`)];
      expect(await runCli(sample(...files, ...args))).toMatchObject({ code: 0, stderr: '' });
      return { png: await readFile(at(`${name}.png`)), tensors: await loadSafetensors(at(`${name}.safetensors`)) };
    };
    const one = await draw('one', '--seed', '3', '--steps', '2', '--class', '7', '--count', '5');
    const again = await draw('again', '--seed', '3', '--steps', '2', '--class', '7', '--count', '5');
    const other = await draw('other', '--seed', '4', '--steps', '2', '--class', '7', '--count', '5');
    expect(one.png.subarray(0, 8).toString('latin1')).toBe('\x89PNG\r\n\x1a\n');
    expect(again.png.equals(one.png)).toBe(true);
    expect(other.png.equals(one.png)).toBe(false);
    expect(one.tensors.get('images')!.shape).toEqual([5, 1, 8, 8]);
    expect([...one.tensors.get('labels')!.dataSync()]).toEqual([7, 7, 7, 7, 7]);
    const { state } = await loadCheckpoint(at('SIGINT', 'checkpoint.safetensors'));
    expect(state).toMatchObject({ config: { data: { mean: 0.5, std: 0.25 } } });
    // De-normalised: about 0.5, not about 0.
    expect(Math.abs((await one.tensors.get('images')!.mean().item()) - 0.5)).toBeLessThan(0.4);
  });

  it('draws each class in turn where none is named', async () => {
    const { code } = await runCli(
      sample('--out', at('all.png'), '--safetensors', at('all.safetensors'), '--count', '70'),
    );
    expect(code).toBe(0);
    const labels = (await loadSafetensors(at('all.safetensors'))).get('labels')!;
    expect([...labels.dataSync()]).toEqual(Array.from({ length: 70 }, (_, i) => i % 12));
  });

  it.each([
    { args: ['--class', '12'], code: 2, says: '--class must be in [0, 12), got 12' },
    { args: ['--class', '-1'], code: 2, says: "--class must be an integer of at least 0, got '-1'" },
    { args: ['--cfg', '2'], code: 2, says: 'without a guidance embedder' },
    { args: ['--count', 'x'], code: 2, says: "--count must be an integer of at least 1, got 'x'" },
  ])('refuses $args', async ({ args, code, says }) => {
    const result = await runCli(sample('--out', at('refused.png'), ...args));
    expect(result.stderr).toContain(says);
    expect(result.code).toBe(code);
  });

  it('refuses files that are no checkpoint of a training run', async () => {
    const { code, stderr } = await runCli([
      'sample',
      '--checkpoint',
      at('data.safetensors'),
      '--out',
      at('refused.png'),
    ]);
    expect(stderr).toContain('not a checkpoint');
    expect(code).toBe(1);
  });
});
