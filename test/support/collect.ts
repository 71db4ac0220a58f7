// Runs V8's collector and what it left to finalise.
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

export async function collect(): Promise<void> {
  gc();
  await setImmediate();
}
