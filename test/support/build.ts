// Builds a native target that tests need beyond the addon.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

export const root = join(__dirname, '..', '..');

/** One build at a time: test files run side by side and share the folder. */
export function build(target: string): void {
  execFileSync(
    'flock',
    [join(root, 'build', 'tests.lock'), 'cmake', '--build', 'build', '--config', 'Release', '--target', target],
    { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] },
  );
}
