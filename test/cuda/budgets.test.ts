// Static checks of the CUDA kernels: registers, shared memory, stack and spills as ptxas reports them.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { nvcc, root } from './support/programs';

(nvcc ? describe : describe.skip)(`kernels${nvcc ? '' : ' (nvcc was not found)'}`, () => {
  it('stay within csrc/cuda/budgets.json, and spill only where it gives the reason', () => {
    // Not every kernel on every target, which takes minutes: `npm run check` does that.
    const script = join(root, 'scripts', 'ptxas-budgets.mjs');
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, '--quick'], {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, NVCC: nvcc },
    });
    if (status !== 0) throw new Error(`${stdout}${stderr}`);
    expect(stdout + stderr).toMatch(/kernels/);
  }, 600_000);
});
