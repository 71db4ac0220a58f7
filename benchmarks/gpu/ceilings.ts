// What a GPU does at best, by the same clock and in the same run as what is put beside it: CUDA's own copy within the device,
// cuBLAS's product of matrices, and two events with nothing between them.
import { ones, tidy } from '../../lib';
import { vendorCopy } from '../../lib/timing';
import { gemmCeiling } from '../support/ceilings';
import { quantile, type Row, type Subject } from '../support/measure';
import { type EventOptions, eventSeconds, measureByEvents, rotate } from './events';
import type { Ceiling } from './figures';
import type { BenchmarkDType } from './group';

/** Measures what `make` gives and frees it. */
function measured(make: () => readonly Subject[][], options: EventOptions): Row {
  let row: Row | undefined;
  tidy(() => {
    [row] = measureByEvents(rotate(make()), options);
  });
  return row!;
}

/** @param bytes of the copy; of more than the L2 cache holds, it is a copy within the device's memory */
export function copyCeiling(options: EventOptions, l2Bytes: number, bytes = 2 ** 28): Ceiling {
  const { device, cold } = options;
  const subject = (): Subject => {
    const x = ones([bytes / 4], { device });
    return { name: 'copy', run: () => vendorCopy(x) };
  };
  const { median } = measured(() => [[subject()], [subject()]], { ...options, rounds: 5 });
  const nothing = eventSeconds(
    device,
    20,
    () => {},
    () => cold.write(1),
  ).sort((a, b) => a - b);
  return { bytes, copySeconds: median, eventSeconds: quantile(nothing, 0.5), l2Bytes, writtenBytes: cold.bytes };
}

/** The rate of a product of n³; null, with the reason told, where there is no library for it. */
export function productRate(dtype: BenchmarkDType, options: EventOptions, n = 8192): number | null {
  try {
    const make = () => [[gemmCeiling(dtype, options.device, n)]];
    const { flops, p10 } = measured(make, { ...options, rounds: 5, atLeast: 0.05 });
    return flops! / p10;
  } catch (error) {
    console.log(`no ceiling for products: ${(error as Error).message}`);
    return null;
  }
}
