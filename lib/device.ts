// What the kernels run on, and with how many threads.
import { native } from './native';

export interface Features {
  /** Version of oneDNN, which multiplies matrices. */
  oneDnn: string;
  /** Version of Highway, which dispatches the other kernels. */
  highway: string;
  /** SIMD level in use, by Highway's name: 'AVX3' is AVX-512. */
  simd: string;
  /** Whether the cores multiply matrices of bfloat16 as they are, at up to twice the rate of float32; else they are widened. */
  bfloat16: boolean;
  /** Threads of the CPU kernels. */
  threads: number;
}

/** What this build was made with, and what it uses on this machine. */
export function features(): Features {
  const [oneDnn, highway, simd, bfloat16] = native.features();
  return { oneDnn, highway, simd, bfloat16, threads: threads() };
}

export interface CudaDevice {
  /** 'cuda:0', 'cuda:1', ... */
  device: string;
  /** The model, as the driver names it. */
  name: string;
  memoryBytes: number;
  /** Of its second-level cache. */
  l2Bytes: number;
  /** Compute capability: '9.0'. */
  capability: string;
}

export interface CudaFeatures {
  /** Where the CUDA library is, or should be. */
  library: string;
  /** Whether it could be opened. */
  found: boolean;
  /** Why it could not, or why it sees no device; absent where there is one. */
  reason?: string;
  /** True with `FLOWMAP_CUDA=emulated`: kernels are interpreted on the processor, for tests. */
  emulated: boolean;
  /** What the kernels were compiled for: 'sm_80', ..., 'compute_80' for PTX. */
  targets: string[];
  /** CUDA version of the build: '13.0'. */
  toolkit?: string;
  /** Newest CUDA version that the driver serves; absent without a driver. */
  driver?: string;
  devices: CudaDevice[];
}

const cudaVersion = (number: number) => `${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`;

/** What there is of CUDA on this machine, and why not. Opens the CUDA library, but no device. */
export function cudaFeatures(): CudaFeatures {
  const { path, reason, emulated, targets, toolkit, driver, why, devices } = native.cuda();
  return {
    library: path,
    found: reason === '',
    ...(reason || why ? { reason: reason || why } : {}),
    emulated,
    targets: targets?.split(' ') ?? [],
    ...(toolkit ? { toolkit: cudaVersion(toolkit) } : {}),
    ...(driver ? { driver: cudaVersion(driver) } : {}),
    devices: devices.map(({ name, memoryBytes, l2Bytes, major, minor }, i) => ({
      device: `cuda:${i}`,
      name,
      memoryBytes,
      l2Bytes,
      capability: `${major}.${minor}`,
    })),
  };
}

export interface CublasFeatures {
  /** Whether it could be opened. */
  found: boolean;
  /** Its file, and its version: '13.1.0'. */
  library?: string;
  version?: string;
  /** Why it could not: where it was looked for, and what to install. */
  reason?: string;
}

/**
 * The cuBLAS library that multiplies matrices on CUDA devices, opened now if no product has before: the file or folder that
 * `FLOWMAP_CUBLAS` names, else that of a CUDA toolkit, of the Python package nvidia-cublas, or on the dynamic linker's path.
 */
export function cublasFeatures(): CublasFeatures {
  const [library, version, reason] = native.cublas();
  if (library) return { found: true, library, version };
  return { found: false, reason: reason || 'there is no CUDA library that could use it' };
}

/**
 * Threads of the CPU kernels: the environment variable `FLOWMAP_THREADS`, else as many as the
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
