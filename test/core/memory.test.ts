// Lifetimes: scopes, disposal, the caching allocator's figures and what happens when memory runs out.

import {
  add,
  DisposedError,
  dispose,
  emptyCache,
  full,
  grad,
  keep,
  memory,
  mul,
  OutOfMemoryError,
  resetPeakMemory,
  ShapeError,
  setMemoryLimit,
  synchronize,
  type Tensor,
  tensor,
  tidy,
  vjp,
  zeros,
} from '../../lib';
import { settledMemory } from '../support/collect';
import { runNode } from '../support/runNode';

describe('tidy', () => {
  it('frees what is made inside and not returned', () => {
    const before = memory().tensors;
    const result = tidy(() => {
      const a = tensor([1, 2, 3]);
      const b = mul(a, a);
      return { sum: add(a, b), list: [b] };
    });
    expect(memory().tensors).toBe(before + 2);
    expect([...result.sum.dataSync()]).toEqual([2, 6, 12]);
    dispose(result);
    expect(memory().tensors).toBe(before);
  });

  it('frees everything when the function throws', () => {
    const before = memory().tensors;
    expect(() =>
      tidy(() => {
        zeros([10]);
        throw new Error('stop');
      }),
    ).toThrow('stop');
    expect(memory().tensors).toBe(before);
  });

  it('leaves kept tensors to the caller', () => {
    const kept = tidy(() => {
      const x = keep(tensor([4]));
      return { get: () => x };
    }).get();
    expect(kept.dataSync()[0]).toBe(4);
    kept.dispose();
  });

  it('refuses an asynchronous function', () => {
    expect(() => tidy(async () => tensor([1]))).toThrow('synchronous');
  });

  it('nests: what escapes the inner scope belongs to the outer one', () => {
    const before = memory().tensors;
    tidy(() => {
      const inner = tidy(() => tensor([1]));
      expect(inner.disposed).toBe(false);
    });
    expect(memory().tensors).toBe(before);
  });
});

it('scopes end with any number of tensors, whose shapes stay readable', () => {
  const before = memory().tensors;
  for (const count of [0, 1, 2, 255, 256, 257, 1000]) {
    const made = tidy(() => {
      const all = Array.from({ length: count }, (_, i) => zeros([i]));
      expect(memory().tensors).toBe(before + count);
      return { shapes: () => all.map((x) => x.shape[0]), disposed: () => all.every((x) => x.disposed) };
    });
    expect(memory().tensors).toBe(before);
    expect(made.disposed()).toBe(true);
    expect(made.shapes()).toEqual(Array.from({ length: count }, (_, i) => i));
  }
});

describe('dispose', () => {
  it('makes later use a typed error naming op and argument', () => {
    const x = tensor([1, 2]);
    x.dispose();
    x.dispose();
    expect(x.disposed).toBe(true);
    expect(x.shape).toEqual([2]);
    expect(() => add(x, tensor([1]))).toThrow(DisposedError);
    expect(() => add(tensor([1]), x)).toThrow(/add: b must be a live tensor/);
    expect(() => x.dataSync()).toThrow(DisposedError);
    return expect(x.data()).rejects.toThrow(DisposedError);
  });

  it('does not disturb work already enqueued', () => {
    const x = full([1000], 2);
    const y = mul(x, x);
    x.dispose();
    expect(y.dataSync()[999]).toBe(4);
    y.dispose();
  });

  it('ends the life of a tensor declared with using', () => {
    const before = memory().tensors;
    {
      using x = tensor([1]);
      expect(x.dataSync()[0]).toBe(1);
    }
    expect(memory().tensors).toBe(before);
  });
});

describe('memory', () => {
  it('returns to its baseline after ten thousand steps, and the process does not grow', async () => {
    const w = tensor(Float64Array.from({ length: 256 }, (_, i) => Math.sin(i)));
    const step = () =>
      tidy(() => {
        grad((x: typeof w) => {
          const y = mul(x, mul(x, w));
          return mul(tensor(1, { dtype: 'float64' }), mul(y, y).sum());
        })(w);
      });
    const round = async () => {
      for (let i = 0; i < 2500; i++) step();
      await settledMemory('cpu');
      return process.memoryUsage().rss;
    };
    await round();
    const before = memory();
    const rss = [await round(), await round(), await round(), await round()];
    const after = memory();
    expect(after.tensors).toBe(before.tensors);
    expect(after.bytes).toBe(before.bytes);
    // V8 takes and returns tens of MB as it likes; a leak grows in every round.
    const growth = rss.map((bytes, i) => bytes - (rss[i - 1] ?? bytes)).slice(1);
    expect(Math.min(...growth)).toBeLessThan(4 * 2 ** 20);
    w.dispose();
  }, 60_000);

  it('runs out with figures, and everything stays usable', async () => {
    await synchronize();
    const { bytes, limitBytes: limit } = memory();
    setMemoryLimit(bytes + 2 ** 20); // other tests' tensors may wait for the collector
    try {
      const big = full([2 ** 20], 1);
      const sum = add(big, big);
      await expect(sum.data()).rejects.toThrow(OutOfMemoryError);
      await expect(sum.data()).rejects.toThrow(
        new RegExp(`full: cpu cannot provide 4194304 bytes: .* limit ${bytes + 2 ** 20}`),
      );
      expect(() => sum.dataSync()).toThrow(OutOfMemoryError);
      expect(() => tensor(new Float32Array(2 ** 20))).toThrow(OutOfMemoryError);
      expect(add(tensor([1]), tensor([2])).dataSync()[0]).toBe(3);
    } finally {
      setMemoryLimit(limit);
    }
    expect(full([2 ** 20], 1).dataSync()[5]).toBe(1);
  });

  it('refuses sizes no machine has, before touching memory', () => {
    expect(() => zeros([2 ** 40, 2 ** 40])).toThrow(/full: shape has more elements/);
    expect(() => zeros([-1])).toThrow(/at least 0/);
    expect(() => zeros([1.5])).toThrow(/integer/);
    expect(() => zeros(Array.from({ length: 9 }, () => 1))).toThrow(/at most 8 axes/);
  });

  it('counts peaks and gives its cache back', async () => {
    emptyCache();
    resetPeakMemory();
    const { bytes } = memory();
    const x = full([2 ** 16], 1);
    await x.data();
    expect(memory().peakBytes).toBeGreaterThanOrEqual(bytes / 2 + 2 ** 18);
    x.dispose();
    await synchronize();
    expect(memory().cachedBytes).toBeGreaterThanOrEqual(2 ** 18);
    emptyCache();
    expect(memory().cachedBytes).toBe(0);
  });
});

describe('the collector', () => {
  const input = keep(full([4], 1));
  const keepAndThrow = () => expect(() => tidy(() => keep(full([8], 1)).add(zeros([3])))).toThrow(ShapeError);
  it.each<[string, () => unknown]>([
    ['made outside of any scope', () => full([8], 1)],
    ['a result of a scope', () => tidy(() => full([8], 1))],
    ['a result of a scope in a scope', () => tidy(() => tidy(() => [full([8], 1)]))],
    ['kept in a scope', () => tidy(() => void keep(full([8], 1)))],
    ['kept in a scope that throws', keepAndThrow],
    ['what a forgotten gradient holds', () => tidy(() => void vjp((x: Tensor) => mul(x, mul(x, 2)).exp(), [input]))],
  ])('finds a tensor that is forgotten: %s', async (_, forget) => {
    const fill = () => {
      for (let i = 0; i < 5; i++) forget();
    };
    const { tensors, bytes } = await settledMemory('cpu');
    fill();
    expect(memory().tensors).toBeGreaterThan(tensors);
    expect(await settledMemory('cpu')).toMatchObject({ tensors, bytes });
  });

  // In a process of its own: how soon V8 has looked through a heap depends on what else is in it.
  it('frees what a program forgets, before that is much', async () => {
    const { code, lines } = await runNode(`const { full, memory, synchronize } = require('./lib');
      const burden = Math.min(2 ** 30, memory().limitBytes / 16); // what V8 is not told about
      (async () => {
        let most = 0;
        for (let made = 0; made < 5 * burden; made += 2 ** 24) {
          full([2 ** 22], 1);
          await synchronize();
          most = Math.max(most, memory().bytes);
          await new Promise(setImmediate);
        }
        console.log(most < 2.5 * burden);
      })();`);
    expect({ code, lines }).toEqual({ code: 0, lines: ['true'] });
  }, 90_000);
});
