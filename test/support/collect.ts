// Runs V8's collector and what it left to finalise.
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type MemoryReport, memory, synchronize, tensor } from '../../lib';
import { native } from '../../lib/native';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

function isLive(handle: number): boolean {
  try {
    native.info(handle);
    return true;
  } catch {
    return false;
  }
}

/** Collects until what is forgotten is freed: finalisers run some turns of the event loop after the collection that found it. */
export async function collect(): Promise<void> {
  const forgotten = (() => tensor(0)._handle)();
  for (let round = 0; isLive(forgotten); round++) {
    if (round === 100) throw new Error('the collector runs no finalisers');
    gc();
    await setImmediate();
  }
}

/** What a device holds once nothing is left to collect: finalisers run later than the collection that found their tensors dead. */
export async function settledMemory(device: string): Promise<MemoryReport> {
  let before: MemoryReport;
  let after = memory(device);
  let same = 0;
  for (let round = 0; same < 3; round++) {
    if (round === 50) throw new Error(`memory of ${device} does not settle`);
    before = after;
    await collect();
    await synchronize(device);
    after = memory(device);
    same = after.bytes === before.bytes && after.tensors === before.tensors ? same + 1 : 0;
  }
  return after;
}
