// node-mlx (@frost-beta/mlx), lazy graphs on Apple's MLX: named, not measured. Nothing here has ever run beside it.
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** What a run says of it. */
export function nodeMlx(): string {
  try {
    createRequire(join(process.cwd(), 'package.json')).resolve('@frost-beta/mlx');
    return 'node-mlx: there, but not measured';
  } catch {
    return 'node-mlx: absent';
  }
}
