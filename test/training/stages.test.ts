// Stages of every objective train, and whatever stops them, end with the bits of a run that nothing stopped.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dispose, loadCheckpoint, memory, type StepMetrics, type TrainConfig, train } from '../../lib';
import { stopAfter, tinyConfig, tinyData, tinyStages } from '../support/tinyStages';

const folder = mkdtempSync(join(tmpdir(), 'flowmap-stages-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const data = tinyData();
const objectives = ['imm', 'consistency', 'meanFlow', 'drifting'] as const;
const { flowMatching } = tinyStages;
// Hashed: jest compares buffers byte by byte, slowly.
const bitsOf = (out: string, file = 'checkpoint.safetensors') =>
  createHash('sha256')
    .update(readFileSync(join(folder, out, file)))
    .digest('hex');

/** Trains in `out`, up to `steps` more steps where given. */
async function run(config: TrainConfig, out: string, { steps, resume }: { steps?: number; resume?: boolean } = {}) {
  const lines: StepMetrics[] = [];
  const signal = steps === undefined ? undefined : stopAfter(steps);
  const options = { out: join(folder, out), quiet: true, resume, signal };
  const { finished, net } = await train(config, data, { ...options, onMetrics: (line) => lines.push(line) });
  net.dispose();
  return { finished, lines };
}

describe.each(objectives)('a stage of %s', (objective) => {
  // Second, so that it starts from the average of another.
  const config = tinyConfig({ ...flowMatching, steps: 2 }, tinyStages[objective]);
  const total = 8;

  it('trains with finite losses, the same from the same seed and others from another', async () => {
    const before = memory().tensors;
    const { finished, lines } = await run(config, `${objective}-whole`);
    expect(memory().tensors).toBeLessThanOrEqual(before); // what an earlier file left may be collected meanwhile
    expect(finished).toBe(true);
    expect(lines.map(({ step, stage }) => [step, stage])).toEqual(
      Array.from({ length: total }, (_, i) => [i + 1, i < 2 ? 0 : 1]),
    );
    expect(lines.every(({ loss, lr }) => Number.isFinite(loss) && lr >= 0)).toBe(true);
    expect(new Set(lines.map(({ loss }) => loss)).size).toBe(total);

    const again = await run(config, `${objective}-again`);
    expect(again.lines.map(({ loss }) => loss)).toEqual(lines.map(({ loss }) => loss));
    expect(bitsOf(`${objective}-again`)).toEqual(bitsOf(`${objective}-whole`));
    const other = await run({ ...config, seed: 4 }, `${objective}-other`);
    expect(other.lines.map(({ loss }) => loss)).not.toEqual(lines.map(({ loss }) => loss));
  });

  it('changes every parameter that its objective reaches', async () => {
    const { tensors } = await loadCheckpoint(join(folder, `${objective}-whole`, 'checkpoint.safetensors'));
    const before = await loadCheckpoint(join(folder, `${objective}-whole`, 'stage0.safetensors'));
    const same = [...before.tensors.ema!].filter(([name, x]) => {
      const [one, other] = [x.dataSync(), tensors.ema!.get(name)!.dataSync()];
      return one.every((value, i) => value === other[i]);
    });
    expect(same.map(([name]) => name)).toEqual([]);
    dispose([tensors, before.tensors].map(Object.values));
  });

  it('stopped and resumed has the weights, averages, moments and generator of a run never stopped, then and at the end', async () => {
    const out = `${objective}-stopped`;
    await run(config, `${objective}-straight`, { steps: 7 });
    for (const [i, steps] of [3, 1, 3].entries()) {
      expect(await run(config, out, { steps, resume: i > 0 })).toMatchObject({ finished: false });
    }
    const { tensors, state } = await loadCheckpoint(join(folder, out, 'checkpoint.safetensors'));
    expect(Object.keys(tensors).sort()).toEqual(['ema', 'model', 'optimizer']);
    expect(state).toMatchObject({ stage: 1, step: 5, generator: { offset: expect.anything() } });
    expect(bitsOf(out)).toEqual(bitsOf(`${objective}-straight`));
    dispose(Object.values(tensors));

    expect(await run(config, out, { resume: true })).toMatchObject({ finished: true, lines: [{ step: total }] });
    for (const file of ['checkpoint.safetensors', 'stage0.safetensors', 'stage1.safetensors']) {
      expect(bitsOf(out, file)).toEqual(bitsOf(`${objective}-whole`, file));
    }
  });

  it('refuses to be resumed as another, and is none the worse for it', async () => {
    const out = `${objective}-straight`;
    const before = { checkpoint: bitsOf(out), metrics: bitsOf(out, 'metrics.jsonl') };
    for (const other of objectives.filter((each) => each !== objective)) {
      const changed = { ...config, stages: [config.stages[0]!, tinyStages[other]] };
      await expect(run(changed, out, { resume: true })).rejects.toThrow(/is of a run with another configuration/);
    }
    expect({ checkpoint: bitsOf(out), metrics: bitsOf(out, 'metrics.jsonl') }).toEqual(before);
    expect(await run(config, out, { resume: true })).toMatchObject({ finished: true });
    expect(bitsOf(out)).toEqual(bitsOf(`${objective}-whole`));
  });
});

it('a run killed once in each of the stages ends bit-identical to one never killed', async () => {
  const stages = objectives.map((objective) => ({ ...tinyStages[objective], steps: 4 }));
  const config = tinyConfig(...stages);
  await run(config, 'unkilled');
  const root = join(__dirname, '../..');
  const [hook, script] = [join(root, 'scripts/typescript.cjs'), join(root, 'test/support/trainTiny.ts')];
  // At odd steps, a step after a checkpoint: each time one step is lost and made again.
  for (const last of [3, 7, 11, 15, null]) {
    const args = ['-r', hook, script, join(folder, 'killed'), JSON.stringify(config), ...(last ? [String(last)] : [])];
    const { signal, status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect({ signal, status, stderr }).toEqual({
      signal: last ? 'SIGKILL' : null,
      status: last ? null : 0,
      stderr: '',
    });
  }
  for (const file of ['checkpoint.safetensors', ...stages.map((_, i) => `stage${i}.safetensors`)]) {
    expect(bitsOf('killed', file)).toEqual(bitsOf('unkilled', file));
  }
  const losses = (out: string) =>
    readFileSync(join(folder, out, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => (({ step, loss }) => [step, loss])(JSON.parse(line)));
  expect(losses('killed')).toEqual(losses('unkilled'));
});
