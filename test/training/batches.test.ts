// Which rows a step sees, and what the network is asked for them: groups share times and classes, all rows come up.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Generator, nn, type Stage, type Tensor, type TrainConfig, tensor, train } from '../../lib';
import { Batches } from '../../lib/training/batches';
import { tinyConfig, tinyData, tinyStages } from '../support/tinyStages';

// 24 rows: 12 of class 0, 6 of class 4, 5 without class, and class 9 with a single one.
const classes = [...new Array(12).fill(0), ...new Array(6).fill(4), ...new Array(5).fill(-1), 9] as number[];
const labels = tensor(Int32Array.from(classes));

/** Rows of `times` draws, one draw after another. */
function rowsOf(batches: Batches, count: number, group: number, { seed = 1, times = 1 } = {}): number[] {
  const generator = new Generator(seed);
  return Array.from({ length: times }, () => {
    const rows = batches.draw(count, group, generator);
    expect(rows).toMatchObject({ shape: [count], dtype: 'int32' });
    const values = [...(rows.dataSync() as Int32Array)];
    rows.dispose();
    return values;
  }).flat();
}

describe('rows are drawn', () => {
  it('the same from the same seed, others from another and from draw to draw', () => {
    for (const [group, grouped] of [
      [1, false],
      [4, true],
    ] as const) {
      const draw = (seed: number) => rowsOf(new Batches(labels, grouped), 16, group, { seed, times: 2 });
      const rows = draw(1);
      expect(draw(1)).toEqual(rows);
      expect(draw(2)).not.toEqual(rows);
      expect(rows.slice(16)).not.toEqual(rows.slice(0, 16));
    }
  });

  it('in groups of one class', () => {
    for (const group of [2, 4, 16]) {
      const rows = rowsOf(new Batches(labels, true), 16, group, { times: 20 });
      for (const [i, row] of rows.entries()) expect(classes[row]).toBe(classes[rows[i - (i % group)]!]);
    }
  });

  it('without groups, of all classes', () => {
    const rows = rowsOf(new Batches(labels, false), 16, 4, { times: 4 });
    const mixed = Array.from(
      { length: 16 },
      (_, g) => new Set(rows.slice(4 * g, 4 * g + 4).map((row) => classes[row])),
    );
    expect(Math.max(...mixed.map((each) => each.size))).toBeGreaterThan(1);
  });

  it.each([
    { group: 1, grouped: false, place: 0 },
    { group: 4, grouped: false, place: 3 },
    { group: 4, grouped: true, place: 0 },
    { group: 4, grouped: true, place: 3 },
  ])('each as often as any other at place $place of groups of $group, grouped by class: $grouped', (given) => {
    const { group, grouped, place } = given;
    const groups = 6000;
    const rows = rowsOf(new Batches(labels, grouped), 600, group, { times: (groups * group) / 600 });
    const counts = new Array<number>(24).fill(0);
    for (let g = 0; g < groups; g++) counts[rows[group * g + place]!]! += 1;
    // 250 are expected, with a standard deviation of 15.5.
    expect(counts.every((count) => count > 250 - 5 * 15.5 && count < 250 + 5 * 15.5)).toBe(true);
  });
});

interface Call {
  t: number[];
  s: number[];
  labels: number[] | null;
}

/** What the network is asked in a run of `stage`, without what derivatives ask. */
async function callsOf(stage: Stage, model: Partial<TrainConfig['model']> = {}): Promise<Call[]> {
  const out = mkdtempSync(join(tmpdir(), 'flowmap-batches-'));
  const read = (x: Tensor) => [...(x.dataSync() as Float64Array | Int32Array)];
  const calls: Call[] = [];
  const forward = nn.DiT.prototype.forward;
  const spy = jest.spyOn(nn.DiT.prototype, 'forward').mockImplementation(function (this: nn.DiT, x, t, s, condition) {
    calls.push({ t: read(t), s: read(s), labels: condition?.labels ? read(condition.labels) : null });
    return forward.call(this, x, t, s, condition);
  });
  try {
    const config = tinyConfig(stage);
    const given = { ...config, model: { ...config.model, ...model } };
    // Read as it goes: not recorded.
    (await train(given, tinyData(), { out, quiet: true, record: false })).net.dispose();
  } finally {
    spy.mockRestore();
    rmSync(out, { recursive: true, force: true });
  }
  return calls;
}

/** Holds each run of `size` values to be one value. -> those values */
function shared(values: readonly number[], size: number): number[] {
  const firsts = values.filter((_, i) => i % size === 0);
  expect(values).toEqual(firsts.flatMap((value) => new Array<number>(size).fill(value)));
  return firsts;
}

describe('a step asks the network', () => {
  const steps = 12;

  it('in a stage of imm for particles that share s, r, t and class, the class dropped for a whole group', async () => {
    const stage: Stage = { ...tinyStages.imm, steps, batch: 16, particles: 4, timeScale: 1, labelDropout: 0.5 };
    const calls = await callsOf(stage);
    expect(calls).toHaveLength(2 * steps);
    const seen = { t: new Set<number>(), classes: new Set<number>(), dropped: 0 };
    for (let i = 0; i < calls.length; i += 2) {
      const [high, low] = [calls[i]!, calls[i + 1]!];
      const [t, r] = [shared(high.t, 4), shared(low.t, 4)];
      const s = shared(high.s, 4);
      expect(low.s).toEqual(high.s);
      for (const g of [0, 1, 2, 3]) {
        expect([0, s[g]!, r[g]!, t[g]!, 0.994]).toEqual([0, s[g]!, r[g]!, t[g]!, 0.994].sort((a, b) => a - b));
        seen.t.add(t[g]!);
      }
      expect(low.labels).toEqual(high.labels);
      for (const label of shared(high.labels!, 4)) {
        seen.classes.add(label);
        seen.dropped += Number(label === -1);
      }
    }
    expect(seen.t.size).toBe(4 * steps);
    expect([...seen.classes].sort()).toEqual([-1, 0, 1, 2]);
    // 24 of 48 are expected, with a standard deviation of 3.5.
    expect(Math.abs(seen.dropped - 24)).toBeLessThan(14);
  });

  it('in a stage of consistency for jumps to the least time only, each row with its own time', async () => {
    const calls = await callsOf({ ...tinyStages.consistency, steps: 3, batch: 8 });
    for (const { s } of calls) expect(s).toEqual(new Array(8).fill(0.01));
    // Every other call is from r, which is the least time for all t that are near it.
    for (const { t } of calls.filter((_, i) => i % 2 === 0)) expect(new Set(t).size).toBe(8);
  });

  it('in a stage of meanFlow for the share with s = t that is asked for', async () => {
    const calls = await callsOf({ ...tinyStages.meanFlow, cfg: 1, steps: 3, batch: 8, equalShare: 0.75 });
    expect(calls).toHaveLength(3);
    for (const { t, s } of calls) {
      expect(t.map((time, i) => time === s[i])).toEqual([true, true, true, true, true, true, false, false]);
      expect(t.every((time, i) => s[i]! <= time && s[i]! > 0 && time < 1)).toBe(true);
    }
  });

  it('in a stage of drifting for jumps from noise to data, with a class for each group', async () => {
    const calls = await callsOf({ ...tinyStages.drifting, steps, batch: 16, particles: 4, labelDropout: 0.5 });
    expect(calls).toHaveLength(steps);
    const groups = calls.flatMap(({ t, s, labels: given }) => {
      expect([t, s]).toEqual([new Array(16).fill(1), new Array(16).fill(0)]);
      return shared(given!, 4);
    });
    expect([...new Set(groups)].sort()).toEqual([-1, 0, 1, 2]);
    expect(Math.abs(groups.filter((label) => label === -1).length - 24)).toBeLessThan(14);
  });

  it.each(['imm', 'consistency', 'meanFlow', 'drifting'] as const)(
    'in a stage of %s for no class where all are dropped, and for every class where none is',
    async (objective) => {
      const asked = async (labelDropout: number) => {
        const stage = { ...tinyStages[objective], steps: 4, batch: 16, labelDropout };
        // Guidance is against an evaluation without class; that one is not meant.
        const calls = await callsOf('cfg' in stage ? { ...stage, cfg: 1 } : stage);
        return [...new Set(calls.flatMap(({ labels: given }) => given!))].sort();
      };
      expect(await asked(1)).toEqual([-1]);
      expect(await asked(0)).toEqual([0, 1, 2]);
    },
  );

  it('without classes where the network knows none, for groups as mixed as the data', async () => {
    const draw = jest.spyOn(Batches.prototype, 'draw');
    const rows: number[] = [];
    draw.mockImplementation(function (this: Batches, ...args) {
      draw.mockRestore();
      const drawn = this.draw(...args);
      rows.push(...(drawn.dataSync() as Int32Array));
      return drawn;
    });
    const calls = await callsOf({ ...tinyStages.drifting, steps: 1, batch: 32, particles: 16 }, { classes: 0 });
    expect(calls.map(({ labels: given }) => given)).toEqual([null]);
    const { labels: all } = tinyData();
    const values = all.dataSync();
    expect(new Set(rows.slice(0, 16).map((row) => values[row])).size).toBe(3);
  });
});
