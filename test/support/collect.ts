// Before each test, what earlier tests dropped is collected: a test that compares `memory()` before and after must not
// see the collector free another test's tensors in between.
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

beforeEach(async () => {
  collect();
  await setImmediate();
});
