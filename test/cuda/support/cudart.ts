// Finds the runtime library of CUDA for programs linked to it, where the machine that runs them is not the one that built
// them.
import { existsSync, realpathSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';

const name = 'libcudart.so.13';

function besideNvcc(nvcc: string): string[] {
  const homes = [nvcc, existsSync(nvcc) ? realpathSync(nvcc) : nvcc].map((path) => join(dirname(path), '..'));
  return homes.flatMap(inToolkit);
}

function inToolkit(home: string): string[] {
  return [join(home, 'lib64'), join(home, 'lib'), join(home, 'targets', 'x86_64-linux', 'lib')];
}

export interface CudartSearch {
  /** nvcc as the build found it, which may be a path of another machine. */
  nvcc?: string;
  /** A copy that came with the build. */
  carried: string;
  /** The emulator's folder, whose library has the same name. */
  emulator: string;
  env?: NodeJS.ProcessEnv;
}

/** The folder that has it; undefined where only the loader's own list may. */
export function cudartFolder({ nvcc, carried, emulator, env = process.env }: CudartSearch): string | undefined {
  const list = (value: string | undefined) => (value ?? '').split(delimiter).filter(Boolean);
  const candidates = [
    ...list(env.LD_LIBRARY_PATH),
    ...[env.CUDA_HOME, env.CUDA_PATH].filter(Boolean).flatMap((home) => inToolkit(home!)),
    ...list(env.PATH).flatMap((folder) => (existsSync(join(folder, 'nvcc')) ? besideNvcc(join(folder, 'nvcc')) : [])),
    ...inToolkit('/usr/local/cuda'),
    ...(nvcc ? besideNvcc(nvcc) : []),
    carried,
  ];
  return candidates.find((folder) => folder !== emulator && existsSync(join(folder, name)));
}
