// A training run for a test to kill: folder and configuration come as arguments, and the step after which the process
// kills itself, where it should; resumes where there is a checkpoint.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { train } from '../../lib';
import { tinyData } from './tinyStages';

const [out, config, last] = process.argv.slice(2) as [string, string, string?];
const resume = existsSync(join(out, 'checkpoint.safetensors'));
console.log('started');
train(JSON.parse(config), tinyData(), {
  out,
  resume,
  quiet: true,
  onMetrics: ({ step }) => {
    if (last !== undefined && step >= Number(last)) process.kill(process.pid, 'SIGKILL');
  },
}).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
