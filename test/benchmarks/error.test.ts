// Errors against float64 that rows carry, at sizes that take no time.
import { activation } from '../../benchmarks/gpu/activation';
import { gatedResidual } from '../../benchmarks/gpu/gatedResidual';
import { dtypeOf } from '../../benchmarks/gpu/group';
import { softmax } from '../../benchmarks/gpu/softmax';
import { groups as attention } from '../../benchmarks/ops/attention.bench';
import { groups as matmul } from '../../benchmarks/ops/matmul.bench';
import { groups as norm } from '../../benchmarks/ops/norm.bench';
import { errorBeside, relativeError } from '../../benchmarks/support/error';
import { measure } from '../../benchmarks/support/measure';
import { tensor } from '../../lib';
import { settledMemory } from '../support/collect';

const families = { attention, matmul, norm };

it.each(['attention', 'matmul', 'norm'] as const)('%s is as near to float64 as its dtype lets it be', (family) => {
  const errors = (dtype: 'float32' | 'float64' | 'bfloat16') =>
    [...families[family]({ dtype, shapes: 'digits' })]
      .flatMap(({ subjects }) => subjects)
      .flatMap(({ name, error }) => (error ? [{ name, error: error() }] : []));
  expect(errors('float32').length).toBeGreaterThanOrEqual(4);
  for (const { error } of errors('float32')) expect(error > 1e-9 && error < 2e-6).toBe(true);
  for (const { error } of errors('bfloat16')) expect(error > 1e-4 && error < 1e-2).toBe(true);
  for (const { error } of errors('float64')) expect(error).toBeLessThan(1e-14);
});

it.each([
  ['activation', activation, 8],
  ['softmax', softmax, 1],
  ['gatedResidual', gatedResidual, 8],
] as const)('%s, whose rows do not know each other, is so too on its first rows', (_, family, count) => {
  for (const group of family({ device: 'cpu', toy: true })) {
    const { subjects, held } = group.make();
    const errors = subjects.map(({ error }) => error!());
    expect(count % errors.length).toBe(0);
    const [least, most] = dtypeOf(group) === 'bfloat16' ? [1e-4, 1e-2] : [1e-9, 2e-6];
    for (const error of errors) expect(error > least && error < most).toBe(true);
    for (const each of held) each.dispose();
  }
});

it('an error is the distance of all results together over the size of the reference, nulls aside', () => {
  const [a, b] = [tensor([3, 4]), tensor([0, 5])];
  const [ra, rb] = [tensor([3, 4], { dtype: 'float64' }), tensor([5, 0], { dtype: 'float64' })];
  expect(relativeError([a, null], [ra, null])).toBe(0);
  expect(relativeError([a, null, b], [ra, null, rb])).toBeCloseTo(1, 12);
  expect(() => relativeError([a], [tensor([1])])).toThrow(/2 elements beside one of 1/);
});

it('an error is asked for once, before the clock runs, and keeps no tensor', async () => {
  const x = tensor([1, 2, 3]);
  const before = (await settledMemory('cpu')).tensors;
  let asked = 0;
  const compare = errorBeside(
    () => [x.mul(1)],
    () => [x.mul(2)],
  );
  const error = () => {
    asked++;
    return compare();
  };
  const subjects = [
    { name: 'with', run: () => x.mul(1), error },
    { name: 'without', run: () => x.mul(1) },
  ];
  const [first, second] = await measure(subjects, { rounds: 3, atLeast: 0 });
  expect(first!.float64Error).toBeCloseTo(0.5, 12);
  expect(second).not.toHaveProperty('float64Error');
  expect(asked).toBe(1);
  expect((await settledMemory('cpu')).tensors).toBe(before);
  x.dispose();
});
