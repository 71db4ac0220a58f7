// A training run for a test to kill: folder and configuration come as arguments; resumes where there is a checkpoint.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Generator, randn, tensor, train } from '../../lib';

const [out, config] = process.argv.slice(2) as [string, string];
const images = randn([8, 1, 4, 4], { generator: new Generator(100) });
const labels = tensor(Int32Array.from([0, 1, 2, 0, 1, 2, 0, 1]));
const resume = existsSync(join(out, 'checkpoint.safetensors'));
console.log('started');
train(JSON.parse(config), { images, labels }, { out, resume, quiet: true }).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
