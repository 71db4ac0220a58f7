// Training and sampling where the data are: every device takes the steps that the CPU takes, to rounding.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dispose, type StepMetrics, train } from '../../lib';
import { describeOnDevices } from '../support/devices';
import { tinyConfig, tinyData, tinyStages } from '../support/tinyStages';

const folder = mkdtempSync(join(tmpdir(), 'flowmap-devices-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(device: string, out: string, objective: keyof typeof tinyStages, stopAfterStep?: number) {
  const data = tinyData();
  const there = { images: data.images.to({ device }), labels: data.labels.to({ device }) };
  const lines: StepMetrics[] = [];
  const config = tinyConfig({ ...tinyStages[objective], steps: 3 });
  const signal =
    stopAfterStep === undefined
      ? undefined
      : {
          get aborted() {
            return lines.length >= stopAfterStep;
          },
        };
  const options = { out: join(folder, out), quiet: true, signal, resume: out.endsWith('-resumed') };
  try {
    const { net } = await train(config, there, { ...options, onMetrics: (line) => lines.push(line) });
    return { net, lines };
  } finally {
    dispose([data, there]);
  }
}

describeOnDevices('training', (device, label) => {
  it.each(Object.keys(tinyStages) as (keyof typeof tinyStages)[])(
    'by %s ends near where the CPU does',
    async (objective) => {
      const cpu = await run('cpu', `${label}-${objective}-cpu`, objective);
      const there = await run(device, `${label}-${objective}`, objective);
      expect(there.net.device).toContain(device);
      expect(there.lines).toHaveLength(3);
      for (const [i, { loss }] of there.lines.entries()) {
        expect(Math.abs(loss - cpu.lines[i]!.loss)).toBeLessThan(1e-4 * (1 + Math.abs(loss)));
      }
      const weights = cpu.net.stateDict();
      for (const [name, x] of there.net.stateDict()) {
        const [a, b] = [x.dataSync(), weights.get(name)!.dataSync()];
        // Where a gradient is all but zero, the first steps of AdamW follow its sign.
        for (const [k, value] of a.entries()) expect(Math.abs(value - b[k]!)).toBeLessThan(7e-3);
      }
      cpu.net.dispose();
      there.net.dispose();
    },
  );
});
