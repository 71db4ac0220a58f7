// Elementwise operations, copies and reductions, larger than the caches, and tiny. Inputs are taken in turn, so that none stays in
// a cache between two runs.
import { add, cast, copy, exp, Generator, mul, randn, randperm, sum, take, transpose } from '../../lib';
import { type BenchmarkDType, bytesOf, dtypes, type Group, maker, type Scale } from './group';

function make(device: string, dtype: BenchmarkDType, rows: number, width: number): ReturnType<Group['make']> {
  const shape = [rows, width];
  const generator = new Generator(2);
  const { held, normal, keep } = maker(device, dtype);
  const matrices = [normal(shape), normal(shape)] as const;
  const [row, column] = [normal([1, width]), normal([rows, 1])];
  const ids = keep(randperm(rows, { device, generator }));
  let turn = 0;
  const next = () => matrices[turn++ % 2]!;
  const n = rows * width;
  const each = bytesOf[dtype];
  const other: BenchmarkDType = dtype === 'float32' ? 'bfloat16' : 'float32';
  const subjects = [
    { name: 'copy', run: () => copy(next()), bytes: 2 * each * n },
    { name: 'x + y', run: () => add(matrices[0], matrices[1]), bytes: 3 * each * n },
    { name: 'x · 2', run: () => mul(next(), 2), bytes: 2 * each * n },
    { name: 'x + row', run: () => add(next(), row), bytes: 2 * each * n },
    { name: 'x · column', run: () => mul(next(), column), bytes: 2 * each * n },
    { name: 'exp', run: () => exp(next()), bytes: 2 * each * n },
    { name: `to ${other}`, run: () => cast(next(), other), bytes: (each + bytesOf[other]) * n },
    { name: 'sum of rows', run: () => sum(next(), 1), bytes: each * n },
    { name: 'sum of columns', run: () => sum(next(), 0), bytes: each * n },
    { name: 'sum of all', run: () => sum(next()), bytes: each * n },
    { name: 'take rows in random order', run: () => take(next(), ids), bytes: 2 * each * n },
    { name: 'randn', run: () => randn(shape, { device, dtype, generator }), bytes: each * n },
    { name: 'transpose', run: () => transpose(next()), bytes: 2 * each * n },
  ];
  return { subjects, held };
}

export const basics = ({ device, toy }: Scale): Group[] => {
  // 64 Mi elements: 256 or 128 MiB each, beyond every second-level cache.
  const sizes = toy
    ? [[8, 32] as const]
    : ([
        [16384, 4096],
        [4, 64],
      ] as const);
  return sizes.flatMap(([rows, width]) =>
    dtypes.map((dtype) => ({
      family: 'basics',
      title: `[${rows}, ${width}] ${dtype}`,
      memory: 16 * rows * width,
      short: true,
      tiny: !toy && rows * width <= 2 ** 20,
      make: () => make(device, dtype, rows, width),
    })),
  );
};
