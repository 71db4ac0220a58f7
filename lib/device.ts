// What the kernels run on, and with how many threads.
import { native } from './native';

export interface Features {
  /** Version of oneDNN, which multiplies matrices. */
  oneDnn: string;
  /** Version of Highway, which dispatches the other kernels. */
  highway: string;
  /** SIMD level in use, by Highway's name: 'AVX3' is AVX-512. */
  simd: string;
  /** Threads of the CPU kernels. */
  threads: number;
}

/** What this build was made with, and what it uses on this machine. */
export function features(): Features {
  const [oneDnn, highway, simd] = native.features();
  return { oneDnn, highway, simd, threads: threads() };
}

/**
 * Threads of the CPU kernels: the environment variable `FLOWMAP_THREADS`, else as many as OpenMP picks within the
 * processors that this process may use.
 */
export function threads(): number {
  return native.threads();
}

/**
 * Lets the CPU kernels of the whole process use `n` threads, from the next operation on. Results are the same bits for
 * any run of the same number.
 *
 * @throws ArgumentError if n is no integer from 1 to 1024
 */
export function setThreads(n: number): void {
  native.setThreads(n);
}
