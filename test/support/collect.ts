// Runs V8's collector and what it left to finalise.
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type MemoryReport, memory, synchronize } from '../../lib';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

let told = 0;
const sentinels = new FinalizationRegistry<null>(() => {
  told += 1;
});

/** Collects until finalisers have run: they are tasks of their own, which a busy machine runs any number of turns later. */
export async function collect(): Promise<void> {
  const before = told;
  sentinels.register({}, null);
  for (let round = 0; told === before; round++) {
    if (round === 1000) throw new Error('the collector runs no finalisers');
    gc();
    await setImmediate();
  }
  // The finalisers of other registries, which take turns with this one.
  await setImmediate();
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
