// Every family of CUDA kernels, as gpu:check has compute-sanitizer run them.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../support/build';
import { describeOnDevices } from '../support/devices';
import { disagreements, families } from './gpuCheck/families';

describeOnDevices('kernel families', (device) => {
  it.each(Object.keys(families))('%s computes what the CPU computes', (name) => {
    expect(disagreements(name, device)).toEqual([]);
  });
});

it('every file of kernels is a family that the sanitizers see', () => {
  const folder = join(root, 'csrc', 'cuda');
  const kernels = readdirSync(folder)
    .filter((file) => file.endsWith('.cu') && readFileSync(join(folder, file), 'utf8').includes('__global__'))
    .map((file) => file.slice(0, -3));
  expect(Object.keys(families).sort()).toEqual(expect.arrayContaining(kernels.sort()));
});
