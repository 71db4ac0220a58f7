// Growth of time with the work: laws and efficiencies from made-up times, and what the families measure.
import { mmdGrowth } from '../../benchmarks/growth/mmd';
import { chain, chainLength, operandSizes, overheadSubjects, perOperation } from '../../benchmarks/growth/overhead';
import { threadCounts, threadGroups } from '../../benchmarks/growth/threads';
import { trainingSteps } from '../../benchmarks/ops/trainingSteps';
import { markdownOf } from '../../benchmarks/report/markdown';
import { pageOf } from '../../benchmarks/report/page';
import { efficiencyOf, formatLaw, growthCells, growthOf } from '../../benchmarks/support/growth';
import { figuresOf, runOf, type Scaling } from '../../benchmarks/support/runFile';
import { batch, network } from '../../examples/digits/network';
import { recipe } from '../../examples/digits/recipe';
import { setThreads, synchronizeSync, type Tensor, tensor, threads, tidy } from '../../lib';
import { settledMemory } from '../support/collect';
import { figure, run } from './support';

const at = (variable: string, value: number, series = 'H 4'): { scaling: Scaling } => ({
  scaling: { series, variable, value },
});

describe('growth of a family', () => {
  const sizes = [4096, 64, 512];
  const figures = [
    ...sizes.map((n) => figure('growth', `S ${n}`, 'value', 2e-9 * n ** 1.97, at('tokens', n))),
    ...sizes.map((n) => figure('growth', `S ${n}`, 'backward', 5e-9 * n ** 2, at('tokens', n))),
    figure('growth', 'alone', 'value', 1, at('batch', 2)),
    figure('growth', 'unsized', 'value', 1),
  ];

  it('has a line for every work at two sizes or more, and its exponent', () => {
    const lines = growthOf(figures);
    expect(lines.map(({ name, variable, series }) => [name, variable, series])).toEqual([
      ['value', 'tokens', 'H 4'],
      ['backward', 'tokens', 'H 4'],
    ]);
    expect(lines.map(({ law }) => law.exponent)).toEqual([expect.closeTo(1.97, 10), expect.closeTo(2, 10)]);
    expect(lines[0]!.figures.map(({ scaling }) => scaling!.value)).toEqual([64, 512, 4096]);
    expect(formatLaw(lines[0]!)).toBe('∝ tokens^1.97');
  });

  it('tells small sizes, which other things bind, from large ones', () => {
    const bound = [1, 2, 4, 8].map((n) => figure('f', `${n}`, 'w', n < 4 ? 1 : n / 4, at('batch', n)));
    expect(formatLaw(growthOf(bound)[0]!)).toMatch(/^∝ batch\^0\.\d\d, at the end \^1\.00$/);
  });

  it('stands in tables beside the largest size only', () => {
    const cells = growthCells(figures);
    expect(figures.map((each) => cells.get(each)?.law)).toEqual([
      '∝ tokens^1.97',
      undefined,
      undefined,
      '∝ tokens^2.00',
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    const whole = run(figures);
    for (const text of [pageOf(whole), markdownOf(whole)]) expect(text).toContain('∝ tokens^1.97');
    expect(pageOf(whole)).toContain('Time against tokens, H 4');
  });
});

describe('growth with threads', () => {
  const seconds = [8, 4.4, 3.2, 2.5];
  const figures = seconds.map((time, i) =>
    figure('threads', `${i + 1}`, 'step', time, { steps: 1, ...at('threads', i + 1, 'digits') }),
  );

  it('has an efficiency beside every row but that of one thread', () => {
    const [line] = growthOf(figures);
    const efficiencies = figures.map((each) => efficiencyOf(each, line!));
    expect(efficiencies).toEqual([undefined, expect.closeTo(8 / 8.8), expect.closeTo(8 / 9.6), expect.closeTo(0.8)]);
    expect(line!.law.exponent).toBeLessThan(-0.8);
    const text = markdownOf(run(figures));
    for (const part of ['91 %', '83 %', '80 %', '0.125 steps/s', '0.400 steps/s']) expect(text).toContain(part);
  });

  it('has none where one thread was not measured, nor along other sizes', () => {
    const without = growthOf(figures.slice(1))[0]!;
    expect(figures.slice(1).map((each) => efficiencyOf(each, without))).toEqual([undefined, undefined, undefined]);
    const sized = figures.map((each, i) => ({ ...each, ...at('batch', i + 1) }));
    expect(efficiencyOf(sized[1]!, growthOf(sized)[0]!)).toBeUndefined();
  });

  it('counts to all cores, doubling where there are many', () => {
    expect(threadCounts(1)).toEqual([1]);
    expect(threadCounts(6)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(threadCounts(40)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 40]);
    expect(threadCounts(64)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64]);
  });

  it('sets as many as a group says, and what they were before afterwards, even where measuring stops half way', () => {
    const before = threads();
    setThreads(2);
    const seen: [number, number][] = [];
    for (const { scaling } of threadGroups()) seen.push([threads(), scaling!.value]);
    expect(seen).toEqual([1, 2, 1, 2].map((count) => [count, count]));
    expect(threads()).toBe(2);
    for (const { scaling } of threadGroups()) {
      expect(scaling!.value).toBe(1);
      break;
    }
    expect(threads()).toBe(2);
    setThreads(before);
  });
});

it('steps run, recorded or not, and survive the file of a run', () => {
  const { plain, recorded } = trainingSteps({ ...network, depth: 1, width: 24, heads: 1, timeFrequencies: 4 }, 2);
  for (const subject of [...plain, ...recorded]) {
    for (let i = 0; i < 3; i++) {
      tidy(() => {
        subject.run!();
      });
    }
    synchronizeSync();
    const row = { ...subject, group: 'g', median: 0.5, p10: 0.4, p90: 0.6 };
    const stored = JSON.parse(JSON.stringify(figuresOf('train', [row])));
    expect(runOf({ results: stored }, 'a run').results[0]).toMatchObject({ steps: 1, group: 'g' });
  }
});

it('the digits of the benchmarks are those of the example', () => {
  const { model, stages } = recipe(0, 'tvm');
  expect(model).toBe(network);
  expect(stages.map((stage) => stage.batch)).toEqual([batch, batch]);
});

it('every size of a line is measured once', () => {
  const titles: string[] = [];
  for (const { title, scaling, subjects } of mmdGrowth()) {
    titles.push(title);
    expect(title).toContain(`${scaling!.value} ${scaling!.variable}`);
    expect(subjects).toHaveLength(2);
    if (titles.length === 4) break;
  }
  expect(new Set(titles).size).toBe(4);
});

describe('the overhead of one operation', () => {
  it('is the time of a block over its operations, without what follows it', async () => {
    let nanoseconds = 0n;
    const clock = jest.spyOn(process.hrtime, 'bigint').mockImplementation(() => nanoseconds);
    const passes = (time: bigint) => () => {
      nanoseconds += time;
    };
    const later = async () => passes(20_000n)();
    const subjects = [passes(20_000n), later].map((block) =>
      perOperation('work', 10, block, { after: passes(5_000_000n) }),
    );
    for (const subject of subjects) {
      nanoseconds = 0n;
      expect(await subject.time!(25)).toBeCloseTo(2e-6, 12);
      expect(nanoseconds).toBe(3n * 5_020_000n);
    }
    clock.mockRestore();
  });

  it('is measured on sums that are right, and leaves nothing behind', async () => {
    for (const size of operandSizes) {
      const [a, b] = [0.5, 0.25].map((x) => tensor(new Float32Array(size).fill(x))) as [Tensor, Tensor];
      tidy(() => expect(Array.from(chain(a, b).dataSync())).toEqual(new Array(size).fill(0.5 + chainLength * 0.25)));
      const before = (await settledMemory('cpu')).tensors;
      for (const subject of overheadSubjects(a, b)) expect(await subject.time!(1)).toBeGreaterThan(0);
      expect((await settledMemory('cpu')).tensors).toBe(before);
      for (const operand of [a, b]) operand.dispose();
    }
  });
});
