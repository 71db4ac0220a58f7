// Where and by what a run was measured: what a reader needs in order to judge its figures or to compare them with others.
import { cpus, totalmem } from 'node:os';
import { cublasFeatures, features } from '../../lib';
import { packageVersion } from '../../lib/packageRoot';
import { commit } from './source';

export interface Machine {
  cpu?: string;
  cores?: number;
  /** Of the CPU kernels. */
  threads?: number;
  memoryBytes?: number;
  /** The GPU's model, in a run on one. */
  gpu?: string;
  /** Of Node, in files from before there were `versions`. */
  node?: string;
}

export interface Provenance {
  /** ISO 8601. */
  date: string;
  /** Ends in '-modified' where the tree differed from it; of an installed package, 'unknown'. */
  commit: string;
  /** The command line behind `npm run bench --` or `flowmap bench`. */
  command: string;
  machine: Machine;
  versions: Record<string, string>;
}

export function provenance(args: readonly string[], gpu?: string): Provenance {
  const { oneDnn, highway, simd, threads } = features();
  const cublas = gpu === undefined ? undefined : cublasFeatures().version;
  return {
    date: new Date().toISOString(),
    commit: commit(),
    command: args.join(' '),
    machine: {
      cpu: cpus()[0]?.model.trim() ?? 'unknown processor',
      cores: cpus().length,
      threads,
      memoryBytes: totalmem(),
      ...(gpu === undefined ? {} : { gpu }),
    },
    versions: {
      flowmap: packageVersion(),
      node: process.version,
      oneDNN: oneDnn,
      Highway: highway,
      SIMD: simd,
      ...(cublas ? { cuBLAS: cublas } : {}),
    },
  };
}
