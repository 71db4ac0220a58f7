// Training where the data are: every device takes the steps that the CPU takes, to rounding; recorded or not, the same.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dispose, memory, type StepMetrics, synchronize, type TrainOptions, train } from '../../lib';
import { describeOnDevices } from '../support/devices';
import { stopAfter, tinyConfig, tinyData, tinyStages } from '../support/tinyStages';

const folder = mkdtempSync(join(tmpdir(), 'flowmap-devices-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Objective = keyof typeof tinyStages;
const objectives = Object.keys(tinyStages) as Objective[];

async function run(device: string, out: string, objective: Objective, options: Partial<TrainOptions> = {}) {
  const data = tinyData();
  const there = { images: data.images.to({ device }), labels: data.labels.to({ device }) };
  const lines: StepMetrics[] = [];
  const config = tinyConfig({ ...tinyStages[objective], steps: 4 });
  const onMetrics = (line: StepMetrics) => lines.push(line);
  try {
    const { net } = await train(config, there, { out: join(folder, out), quiet: true, onMetrics, ...options });
    const weights = new Map([...net.stateDict()].map(([name, x]) => [name, x.dataSync()]));
    net.dispose();
    return { device: net.device, weights, lines, losses: lines.map(({ loss }) => loss) };
  } finally {
    dispose([data, there]);
  }
}

describeOnDevices('training', (device, label) => {
  it.each(objectives)('by %s ends near where the CPU does', async (objective) => {
    const cpu = await run('cpu', `${label}-${objective}-cpu`, objective);
    const there = await run(device, `${label}-${objective}`, objective);
    expect(there.device).toContain(device);
    expect(there.losses).toHaveLength(4);
    for (const [i, loss] of there.losses.entries()) {
      expect(Math.abs(loss - cpu.losses[i]!)).toBeLessThan(1e-4 * (1 + Math.abs(loss)));
    }
    for (const [name, values] of there.weights) {
      const expected = cpu.weights.get(name)!;
      // Where a gradient is all but zero, the first steps of AdamW follow its sign.
      for (const [k, value] of values.entries()) expect(Math.abs(value - expected[k]!)).toBeLessThan(9e-3);
    }
  });

  it.each(objectives)('by %s has the same bits, recorded or not', async (objective) => {
    const name = `${label}-${objective}`;
    const held = async () => {
      await synchronize(device); // what is queued may hold memory that is free already
      return memory(device).bytes;
    };
    const before = await held();
    const recorded = await run(device, `${name}-recorded`, objective);
    expect(await held()).toBeLessThanOrEqual(before);
    const plain = await run(device, `${name}-plain`, objective, { record: false });
    expect(recorded.losses).toEqual(plain.losses);
    expect([...recorded.weights]).toEqual([...plain.weights]);
    // Stopped after a step of the recording, and resumed with a recording of its own.
    const out = `${name}-stopped`;
    await run(device, out, objective, { signal: stopAfter(3) });
    const resumed = await run(device, out, objective, { resume: true });
    expect([...resumed.weights]).toEqual([...plain.weights]);
  });
});
