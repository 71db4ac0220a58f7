// Calls every function of the addon with values of every kind. Whatever JavaScript passes, a call returns or throws a
// typed error; it never crashes the process or hangs it.
import { FlowmapError, memory, setMatmulPrecision, setMemoryLimit, synchronize, synchronizeSync } from '../../lib';
import { native } from '../../lib/native';

type Callable = (...args: unknown[]) => unknown;
const bindings = native as unknown as Record<string, Callable>;
// Not called: the first would replace what makes errors, the others are what this test itself relies on; and after the last
// all calls would be recorded.
const excluded = new Set(['setErrorFactory', 'setMemoryLimit', 'setThreads', 'graphBegin']);
const names = Object.keys(bindings).filter((name) => !excluded.has(name));

function makeRandom(seed: number) {
  let state = seed >>> 0;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return { next, pick: <T>(items: readonly T[]): T => items[Math.floor(next() * items.length)]! };
}

const shapes = [
  [],
  [1],
  [3],
  [0],
  [2, 3],
  [3, 2],
  [3, 3],
  [2, 0],
  [2, 3, 4],
  [1, 2, 3, 4],
  [2, 3, 2, 4],
  [2, 3, 3, 2, 4],
];
const dtypes = ['float32', 'float64', 'bfloat16', 'float16', 'int32', 'bool'];

function makePools(pick: <T>(items: readonly T[]) => T, devices: readonly string[]) {
  const live = devices.flatMap((device) =>
    dtypes.flatMap((dtype) => shapes.map((shape) => bindings.full!(device, shape, dtype, 1) as number)),
  );
  // Most ops want arguments that agree: favour one dtype.
  const float32 = live.slice(0, shapes.length);
  const gone = bindings.full!(devices[0], [2], 'float32', 0) as number;
  bindings.dispose!(gone);
  const numbers = [0, 1, -1, 2, 3, 0.5, 1e-6, -0, 1e9, 2 ** 31, 2 ** 53, -(2 ** 40), Number.NaN, Infinity, -Infinity];
  const tensor = () => pick([pick(float32), pick(float32), pick(float32), pick(live), gone]);
  const kinds: Record<string, () => unknown> = {
    tensor,
    tensors: () => Array.from({ length: pick([0, 1, 2, 3]) }, () => pick([tensor(), tensor(), null])),
    number: () => pick(numbers),
    integers: () => Array.from({ length: pick([0, 1, 2, 3, 4, 9]) }, () => pick([0, 1, 2, 3, -1, 7, 1e6, 2 ** 40])),
    boolean: () => pick([true, false]),
    text: () => pick(['', 'cpu', 'cuda', 'cuda:7', 'BHSD', 'BSHD', 'laplace', 'x'.repeat(1000), '\ud800', ...dtypes]),
    array: () =>
      pick([
        new Float32Array(6),
        new Uint8Array(3),
        new ArrayBuffer(24),
        new Float64Array(0),
        new DataView(new ArrayBuffer(4)),
      ]),
    odd: () =>
      pick<unknown>([
        null,
        undefined,
        {},
        [],
        [[]],
        () => 0,
        Symbol('s'),
        10n,
        new Proxy([], {}),
        [NaN],
        ['a'],
        new Date(),
      ]),
  };
  const any = () => kinds[pick(Object.keys(kinds))]!();
  return { kinds, any, keepAlive: new Set(live) };
}

// What to try next for an argument that was refused.
function kindFor(message: string): string | null {
  if (/array of tensors/.test(message)) return 'tensors';
  if (/a tensor|live tensor/.test(message)) return 'tensor';
  if (/array of (integers|numbers)/.test(message)) return 'integers';
  if (/a number|an integer/.test(message)) return 'number';
  if (/a boolean/.test(message)) return 'boolean';
  if (/typed array/.test(message)) return 'array';
  if (/a string|one of float32|'cpu'/.test(message)) return 'text';
  return null;
}

/** On tensors of `devices`, mostly of the first. */
export async function fuzzAddon(devices: readonly string[], calls: number): Promise<void> {
  const limits = devices.map((device) => memory(device).limitBytes);
  // Above what other tests may have left to the collector.
  for (const device of devices) setMemoryLimit(memory(device).bytes + 256 * 2 ** 20, device);
  try {
    const random = makeRandom(20260101);
    const { pick } = random;
    const { kinds, any, keepAlive } = makePools(pick, devices);
    const releaseNew = (result: unknown): void => {
      if (typeof result === 'number' && !keepAlive.has(result)) bindings.dispose!(result);
      else if (Array.isArray(result)) for (const item of result) releaseNew(item);
    };
    const accepted = new Map<string, number>();
    const promises: Promise<unknown>[] = [];
    let call = 0;
    for (let round = 0; call < calls; round++) {
      const name = names[round % names.length]!;
      const args = Array.from({ length: pick([0, 1, 2, 3, 5, 8, 12]) }, any);
      // A refused argument is replaced by one of the kind the message asks for, so that calls get deep.
      let cursor = 0;
      let refused = '';
      for (let attempt = 0; attempt < 24; attempt++) {
        if (name === 'dispose' && keepAlive.has(args[0] as number)) break;
        if (name === 'watch' && keepAlive.has(args[1] as number))
          args[1] = bindings.full!(devices[0], [2], 'float32', 0);
        call += 1;
        try {
          const result = bindings[name]!(...args);
          if (result instanceof Promise)
            promises.push(result.catch((error) => expect(error).toBeInstanceOf(FlowmapError)));
          else if (!['dispose', 'info', 'memory'].includes(name)) releaseNew(result);
          accepted.set(name, (accepted.get(name) ?? 0) + 1);
          break;
        } catch (error) {
          if (!(error instanceof FlowmapError)) throw new Error(`${name} threw ${String(error)}`);
          expect(error.op.length).toBeGreaterThan(0);
          const argument = error.message.split(' ', 2).join(' ');
          if (refused !== '' && argument !== refused) cursor += 1;
          refused = argument;
          const kind = kindFor(error.message);
          // Most calls convert arguments in order; where that guess does not help, any place is tried.
          const guess = kind !== null && attempt % 4 !== 3;
          const at = guess ? cursor : Math.floor(random.next() * Math.max(4, args.length));
          while (args.length <= at) args.push(undefined);
          args[at] = kind === null ? any() : kinds[kind]!();
        }
      }
      if (round % 64 === 0) {
        for (const device of devices) {
          try {
            synchronizeSync(device);
          } catch (error) {
            expect(error).toBeInstanceOf(FlowmapError); // a fault that no read told
          }
        }
      }
    }
    await Promise.all(promises);
    for (const device of devices)
      await synchronize(device).catch((error) => expect(error).toBeInstanceOf(FlowmapError));
    // The test means something only if it also gets past the checks.
    expect(accepted.size).toBeGreaterThan(names.length / 2);
    for (const handle of keepAlive) bindings.dispose!(handle);
  } finally {
    devices.forEach((device, i) => {
      setMemoryLimit(limits[i]!, device);
      setMatmulPrecision('highest', device); // the calls set it as they please
    });
  }
}
