// C++ formatting by the clang-format that package-lock.json pins, so that every machine agrees. Checks; --write rewrites.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { getNativeBinary } = createRequire(import.meta.url)('clang-format');
const files = ['csrc', 'test/native', 'test/cuda', 'benchmarks']
  .flatMap((folder) => {
    try {
      return readdirSync(folder, { recursive: true }).map((name) => join(folder, name));
    } catch (error) {
      if (error.code === 'ENOENT') return [];
      throw error;
    }
  })
  .filter((name) => /\.(h|cc|cu|cuh)$/.test(name));
const mode = process.argv.includes('--write') ? ['-i'] : ['--dry-run', '--Werror'];
const { status, error } = spawnSync(getNativeBinary(), [...mode, ...files], { stdio: 'inherit' });
if (error) throw error;
if (status === 0) console.log(`clang-format: ${files.length} files`);
process.exit(status);
