// The GPU benchmarks' subjects at toy sizes, where every operation has a kernel, and how they are timed: on the CPU. On the
// emulator they run as a step of gpu:check.
import { copyCeiling } from '../../benchmarks/gpu/ceilings';
import { ColdCache, eventSeconds, measureByEvents, rotate } from '../../benchmarks/gpu/events';
import { figureOf, printFigures, timingOf } from '../../benchmarks/gpu/figures';
import { type Group, runOnce } from '../../benchmarks/gpu/group';
import { groupsOf } from '../../benchmarks/gpu/groups';
import { inputsFor, makeMore } from '../../benchmarks/gpu/measure';
import { markdownOf } from '../../benchmarks/report/markdown';
import { formatDiff } from '../../benchmarks/support/diff';
import { runOf } from '../../benchmarks/support/runFile';
import { memory, mul, OutOfMemoryError, ones, type Tensor } from '../../lib';

const toys = groupsOf({ device: 'cpu', toy: true });
const device = 'cpu';
const cold = new ColdCache(device, 4096);

it.each(toys.map((group) => [`${group.family}: ${group.title}`, group] as const))(
  '%s runs any number of times',
  (_, group) => {
    const before = memory().tensors;
    const first = group.make();
    const { subjects } = first;
    for (const subject of subjects) for (let i = 0; i < 2; i++) runOnce(subject);
    const names = subjects.map(({ name }) => name);
    const all = makeMore(first, group, names, 2);
    const made = memory().tensors;
    const rows = measureByEvents(rotate(all.map((each) => each.subjects)), { device, cold, rounds: 1, atLeast: 0 });
    expect(rows.map(({ name }) => name)).toEqual(names);
    for (const { median, launchSeconds, inputs, peakBytes } of rows) {
      expect([median > 0, launchSeconds! > 0, inputs, peakBytes! >= 0]).toEqual([true, true, 2, true]);
    }
    expect(memory().tensors).toBe(made);
    for (const { held } of all) for (const each of held) each.dispose();
    expect(memory().tensors).toBe(before);
  },
);

it('groups at full size have titles of their own, fit a device of 80 GB, and state what they move or compute', () => {
  const groups = groupsOf({ device: 'cuda', toy: false });
  const titles = groups.map(({ family, title }) => `${family}: ${title}`);
  expect(new Set(titles).size).toBe(titles.length);
  expect(groups.filter(({ memory: bytes }) => !(bytes > 0 && bytes < 72e9))).toEqual([]);
  for (const { make } of toys) {
    const { subjects, held } = make();
    expect(subjects.filter(({ bytes, flops }) => !(bytes! > 0) && !(flops! > 0))).toEqual([]);
    expect(new Set(subjects.map(({ name }) => name)).size).toBe(subjects.length);
    for (const each of held) each.dispose();
  }
});

it('a figure is a share of what its bytes take at the rate of the copy', () => {
  const row = { group: 'g', name: 'n', median: 2e-3, p10: 1e-3, p90: 3e-3 };
  expect(figureOf('f', { ...row, bytes: 4e9 }, 4e12)).toMatchObject({
    family: 'f',
    group: 'g',
    gbytes: 2000,
    floorSeconds: 1e-3,
    shareOfCopy: 0.5,
  });
  expect(figureOf('f', { ...row, flops: 1e12 }, 4e12)).toMatchObject({ tflops: 500 });
});

describe('inputs', () => {
  const group = (memory: number, make?: Group['make']): Group => ({
    family: 'f',
    title: 'g',
    memory,
    short: true,
    make: make ?? (() => ({ subjects: [], held: [] })),
  });

  it('are made as often as there is room for, four times at most, once in any case', () => {
    expect([1, 25, 26, 49, 51, 99, 101].map((size) => inputsFor(group(size), 100))).toEqual([4, 4, 3, 2, 1, 1, 1]);
  });

  it('are taken in turn, each run its own', () => {
    const turns: number[] = [];
    const copies = [0, 1, 2].map((copy) => [{ name: 'n', run: () => turns.push(copy) }]);
    const [row] = measureByEvents(rotate(copies), { device, cold, rounds: 2, atLeast: 0 });
    expect(row).toMatchObject({ name: 'n', inputs: 3 });
    expect(turns).toEqual(turns.map((_, i) => i % 3));
    expect(turns.length).toBeGreaterThan(6);
  });

  it('that the device has no room for after all are done without, and freed', () => {
    const before = memory().tensors;
    let count = 0;
    const make = () => {
      const x = ones([2]);
      const full = count++ === 2;
      const run = (): Tensor => {
        if (full) throw new OutOfMemoryError('f', 'no room');
        return mul(x, 2);
      };
      return { subjects: [{ name: 'n', run }], held: [x] };
    };
    const all = makeMore(make(), group(1, make), ['n'], 4);
    expect([all.length, count]).toEqual([2, 3]);
    for (const { held } of all) for (const x of held) x.dispose();
    expect(memory().tensors).toBe(before);
  });

  it('whose subjects fail for another reason are freed too, and the reason is thrown', () => {
    let count = 0;
    let disposed = 0;
    const make = () => {
      const fails = count++ === 2;
      const run = () => {
        if (fails) throw new RangeError('why');
      };
      return { subjects: [{ name: 'n', run }], held: [{ dispose: () => void disposed++ }] };
    };
    expect(() => makeMore(make(), group(1, make), ['n'], 4)).toThrow('why');
    expect(disposed).toBe(2);
  });
});

describe('times by events', () => {
  it('are one for each run, before each of which comes what is not timed', () => {
    const order: string[] = [];
    const seconds = eventSeconds(
      device,
      3,
      (turn) => order.push(`run ${turn}`),
      () => order.push('before'),
    );
    expect(seconds.map((each) => each >= 0)).toEqual([true, true, true]);
    expect(order).toEqual(['before', 'run 0', 'before', 'run 1', 'before', 'run 2']);
  });

  it('come with the ceiling by the same clock, of which the file and its readers tell', () => {
    const ceiling = copyCeiling({ device, cold, rounds: 1, atLeast: 0 }, 2 ** 20, 4096);
    expect(ceiling).toMatchObject({ bytes: 4096, l2Bytes: 2 ** 20, writtenBytes: 4096 });
    expect(ceiling.copySeconds).toBeGreaterThan(0);
    const row = { group: 'g', name: 'n', median: 2e-3, p10: 1e-3, p90: 3e-3, launchSeconds: 4.2e-6, inputs: 3 };
    const figure = figureOf('f', row, 1);
    expect(figure).toMatchObject({ launchSeconds: 4.2e-6, inputs: 3 });
    const log = jest.spyOn(console, 'log').mockImplementation(() => {});
    printFigures('f', [figure]);
    expect(log.mock.calls.flat().join()).toContain('launch 4.2 µs');
    log.mockRestore();
    const run = runOf(
      {
        emulated: false,
        device: 'A GPU',
        timing: timingOf(ceiling),
        ceiling,
        results: [figure],
        skipped: [],
        failed: [],
      },
      'a.json',
    );
    expect(run.results[0]!.launchSeconds).toBe(4.2e-6);
    expect(markdownOf(run)).toContain('| Launch |');
    const other = { ...run, timing: undefined };
    expect(formatDiff(other, run)).toMatch(/timing +a +not recorded\n +b +events around each run, 4.10 kB written/);
  });
});
