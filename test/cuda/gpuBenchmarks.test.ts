// The GPU benchmarks' subjects at toy sizes, where every operation has a kernel: on the CPU. On the emulator they run as a step
// of gpu:check.
import { figureOf } from '../../benchmarks/gpu/figures';
import { runOnce } from '../../benchmarks/gpu/group';
import { groupsOf } from '../../benchmarks/gpu/groups';
import { measure } from '../../benchmarks/support/measure';
import { memory } from '../../lib';

const toys = groupsOf({ device: 'cpu', toy: true });

it.each(toys.map((group) => [`${group.family}: ${group.title}`, group] as const))(
  '%s runs any number of times',
  async (_, group) => {
    const before = memory().tensors;
    const { subjects, held } = group.make();
    const made = memory().tensors;
    for (const subject of subjects) for (let i = 0; i < 2; i++) runOnce(subject);
    const rows = await measure(subjects, { rounds: 1, atLeast: 0 });
    expect(rows.map(({ median }) => median > 0)).toEqual(subjects.map(() => true));
    expect(memory().tensors).toBe(made);
    for (const each of held) each.dispose();
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
