// What the families of GPU benchmarks are made of: groups of subjects that share their inputs.
import { type DType, dispose, Generator, isTensor, randn, reshape, slice, type Tensor, tidy, vjp } from '../../lib';
import type { PresetName } from '../presets';
import type { Subject } from '../support/measure';
import type { Scaling } from '../support/runFile';

export interface Scale {
  device: string;
  /** Sizes that an emulator runs in no time. */
  toy: boolean;
  /** Fewer rows, for a CPU. */
  fewer?: boolean;
  /** In place of a family's own sizes, where these are not toys. */
  shapes?: PresetName;
}

export interface Group {
  family: string;
  title: string;
  /** Bytes on the device: inputs, and the results of the subject that has most. */
  memory: number;
  /** Belongs to the short selection of gpu:check. */
  short: boolean;
  /** Too small for its bytes to say anything: launching is all. */
  tiny?: boolean;
  /** Its place among groups that differ in one size only. */
  scaling?: Scaling;
  /** Makes inputs on the device. */
  make(): { subjects: Subject[]; held: readonly Disposable[] };
}

export interface Disposable {
  dispose(): void;
}

/** Tokens of a batch of DiT-XL/2, or a sixteenth of them. */
export const tokensOf = ({ fewer }: Scale): number => (fewer ? 4096 : 65536);

export const dtypes = ['float32', 'bfloat16'] as const satisfies readonly DType[];
export type BenchmarkDType = (typeof dtypes)[number];
export const bytesOf: Readonly<Record<BenchmarkDType, number>> = { float32: 4, bfloat16: 2 };

/** The dtype that a group's title names. */
export function dtypeOf({ title }: Group): BenchmarkDType {
  const named = dtypes.find((dtype) => title.split(' ').includes(dtype));
  if (!named) throw new Error(`benchmarks: the title '${title}' names no dtype`);
  return named;
}

export interface Maker {
  /** Everything made, to be disposed of by the caller of `make`. */
  held: Disposable[];
  normal(shape: readonly number[]): Tensor;
  keep<T extends Disposable>(made: T): T;
  /** The function that pulls cotangents back through `f` at `primals`. */
  pullback<R>(f: (...inputs: Tensor[]) => R, primals: readonly Tensor[]): (cotangents: R) => Tensor[];
}

/** Makes tensors of one dtype on one device and holds them. */
export function maker(device: string, dtype: DType): Maker {
  const generator = new Generator(1);
  const held: Disposable[] = [];
  const keep = <T extends Disposable>(made: T): T => {
    held.push(made);
    return made;
  };
  return {
    held,
    keep,
    normal: (shape) => keep(randn(shape, { device, dtype, generator })),
    pullback: (f, primals) => {
      const [out, pull] = vjp(f, [...primals]);
      dispose(out);
      return keep(pull) as (cotangents: unknown) => Tensor[];
    },
  };
}

/** What `f` pulls its cotangents back to at `primals`, once. */
export function pulled<R>(f: (...inputs: Tensor[]) => R, primals: readonly Tensor[], cotangents: R): Tensor[] {
  const [out, pull] = vjp(f, [...primals]);
  const gradients = (pull as (cotangents: unknown) => Tensor[])(cotangents);
  dispose(out);
  pull.dispose();
  return gradients;
}

/** Runs a subject and reads from each of its results: a kernel that fails does so where its result is read. */
export function runOnce(subject: Subject): void {
  const read = (made: unknown): void => {
    if (Array.isArray(made)) for (const item of made) read(item);
    else if (isTensor(made) && made.size > 0) slice(reshape(made, [-1]), [0], [1]).dataSync();
  };
  tidy(() => read(subject.run!()));
}
