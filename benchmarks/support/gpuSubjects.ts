// What benchmarks/gpu.ts measures. Inputs are taken in turn, so that none stays in a cache between two runs.
import {
  add,
  cast,
  copy,
  type DType,
  exp,
  Generator,
  mul,
  randn,
  randperm,
  sum,
  type Tensor,
  take,
  transpose,
} from '../../lib';
import type { Subject } from './measure';

export interface GpuSize {
  device: string;
  dtype: DType;
  rows: number;
  width: number;
}

const bytesOf: Partial<Record<DType, number>> = { float32: 4, bfloat16: 2 };

/** Subjects, and the tensors they read: to be disposed of by the caller. */
export function gpuSubjects({ device, dtype, rows, width }: GpuSize): { subjects: Subject[]; inputs: Tensor[] } {
  const shape = [rows, width];
  const generator = new Generator(1);
  const make = (of: readonly number[]) => randn(of, { device, dtype, generator });
  const matrices = [make(shape), make(shape)] as const;
  const [row, column] = [make([1, width]), make([rows, 1])];
  const ids = randperm(rows, { device, generator });
  let turn = 0;
  const next = () => matrices[turn++ % 2]!;
  const n = rows * width;
  const each = bytesOf[dtype]!;
  const other: DType = dtype === 'float32' ? 'bfloat16' : 'float32';
  const subjects: Subject[] = [
    { name: 'copy', run: () => copy(next()), bytes: 2 * each * n },
    { name: 'x + y', run: () => add(matrices[0], matrices[1]), bytes: 3 * each * n },
    { name: 'x · 2', run: () => mul(next(), 2), bytes: 2 * each * n },
    { name: 'x + row', run: () => add(next(), row), bytes: 2 * each * n },
    { name: 'x · column', run: () => mul(next(), column), bytes: 2 * each * n },
    { name: 'exp', run: () => exp(next()), bytes: 2 * each * n },
    { name: `to ${other}`, run: () => cast(next(), other), bytes: (each + bytesOf[other]!) * n },
    { name: 'sum of rows', run: () => sum(next(), 1), bytes: each * n },
    { name: 'sum of columns', run: () => sum(next(), 0), bytes: each * n },
    { name: 'sum of all', run: () => sum(next()), bytes: each * n },
    { name: 'take rows in random order', run: () => take(next(), ids), bytes: 2 * each * n },
    { name: 'randn', run: () => randn(shape, { device, dtype, generator }), bytes: each * n },
    { name: 'transpose', run: () => transpose(next()), bytes: 2 * each * n },
  ];
  return { subjects, inputs: [...matrices, row, column, ids] };
}
