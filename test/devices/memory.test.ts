// Memory of every device: figures, reuse, running out, and nothing taken per op once a program has warmed up.
import {
  add,
  emptyCache,
  full,
  memory,
  mul,
  OutOfMemoryError,
  resetPeakMemory,
  setMemoryLimit,
  synchronize,
  tensor,
  tidy,
  zeros,
} from '../../lib';
import { settledMemory } from '../support/collect';
import { describeOnDevices } from '../support/devices';

describeOnDevices('memory', (device) => {
  const options = { device };

  it('returns to its baseline after work, and takes nothing more once warm', async () => {
    const w = tensor([1, 2, 3], options);
    const round = async () => {
      for (let i = 0; i < 30; i++) {
        tidy(() => add(mul(w, w), tensor([4, 5, i], options)).sum()).dispose();
        await synchronize(device); // how far JavaScript runs ahead decides how much is alive at once
      }
      return settledMemory(device);
    };
    await round();
    const before = await round();
    const after = await round();
    expect(after.tensors).toBe(before.tensors);
    expect(after.bytes).toBe(before.bytes);
    expect(after.cachedBytes).toBe(before.cachedBytes);
    w.dispose();
  });

  it('counts peaks and gives its cache back', async () => {
    emptyCache(device);
    await synchronize(device);
    resetPeakMemory(device);
    const { bytes } = memory(device);
    const x = full([2 ** 12], 1, options);
    await x.data();
    expect(memory(device).bytes).toBeGreaterThanOrEqual(bytes + 2 ** 14);
    expect(memory(device).peakBytes).toBeGreaterThanOrEqual(bytes + 2 ** 14);
    x.dispose();
    await synchronize(device);
    expect(memory(device).cachedBytes).toBeGreaterThanOrEqual(2 ** 14);
    emptyCache(device);
    await synchronize(device);
    expect(memory(device).cachedBytes).toBe(0);
  });

  it('runs out with figures, and everything stays usable', async () => {
    const kept = tensor([1], options);
    await synchronize(device);
    const { bytes, limitBytes: limit } = memory(device);
    setMemoryLimit(bytes + 2 ** 20, device); // other tests' tensors may wait for the collector
    try {
      const big = full([2 ** 20], 1, options);
      const sum = add(big, big);
      await expect(sum.data()).rejects.toThrow(OutOfMemoryError);
      await expect(sum.data()).rejects.toThrow(
        new RegExp(`full: \\S+ cannot provide 4194304 bytes: .* limit ${bytes + 2 ** 20}`),
      );
      expect(() => sum.dataSync()).toThrow(OutOfMemoryError);
      expect(() => tensor(new Float32Array(2 ** 20), options).dataSync()).toThrow(OutOfMemoryError);
      expect(add(kept, tensor([2], options)).dataSync()[0]).toBe(3);
    } finally {
      setMemoryLimit(limit, device);
    }
    expect(full([2 ** 10], 1, options).dataSync()[5]).toBe(1);
  });

  it('gives its cache back before it runs out', async () => {
    emptyCache(device);
    await synchronize(device);
    const limit = memory(device).limitBytes;
    setMemoryLimit(memory(device).bytes + 3 * 2 ** 20, device);
    try {
      const half = full([2 ** 19], 1, options); // 2 MiB
      await half.data();
      half.dispose();
      await synchronize(device);
      const other = full([10, 2 ** 16], 2, options); // 2.5 MiB: fits only without the cached block
      expect((await other.data())[0]).toBe(2);
      other.dispose();
    } finally {
      setMemoryLimit(limit, device);
    }
  });

  it('fails where the device itself runs out, below the limit, and goes on', async () => {
    const { limitBytes } = memory(device);
    setMemoryLimit(2 ** 50, device);
    try {
      const absurd = zeros([2 ** 44], options);
      await expect(absurd.data()).rejects.toThrow(OutOfMemoryError);
      absurd.dispose();
    } finally {
      setMemoryLimit(limitBytes, device);
    }
    expect(add(tensor([1], options), 1).dataSync()[0]).toBe(2);
  });
});
