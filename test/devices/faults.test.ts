// What goes wrong inside kernels: told once, typed and by the name of the op, and the device goes on.
import { ArgumentError, add, checkFinite, NumericalError, synchronize, take, tensor } from '../../lib';
import { describeOnDevices } from '../support/devices';

describeOnDevices('a fault in a kernel', (device) => {
  const options = { device };
  const int32 = (data: number[]) => tensor(data, { dtype: 'int32', device });

  it('is thrown, typed, by the read that follows, naming op, value and place', async () => {
    const x = tensor([1, 2, 3], options);
    await expect(take(x, int32([0, 7])).data()).rejects.toThrow(ArgumentError);
    expect(() => take(x, int32([0, 1, -1])).dataSync()).toThrow(
      'take: indices must be in [0, 3), got -1 at position 2',
    );
    await expect(checkFinite(add(x, Number.POSITIVE_INFINITY), 'the sum').data()).rejects.toThrow(NumericalError);
  });

  it('stays with what the op computed, and what was computed from that looks wrong', async () => {
    const x = tensor([1, 2, 3], options);
    const faulty = take(x, int32([0, 3]));
    const sum = add(faulty, 1);
    await expect(faulty.data()).rejects.toThrow(ArgumentError);
    await expect(faulty.data()).rejects.toThrow('take: indices must be in [0, 3), got 3 at position 1');
    expect(() => add(faulty, 1).dataSync()).toThrow(ArgumentError);
    // On the CPU the error goes along with values; on a GPU it was not known yet.
    if (device !== 'cpu') expect(Array.from(await sum.data())).toEqual([2, Number.NaN]);
    expect(Array.from(await x.data())).toEqual([1, 2, 3]);
  });

  it('leaves later work unharmed', async () => {
    const x = tensor([1, 2, 3], options);
    await expect(take(x, int32([5])).data()).rejects.toThrow(ArgumentError);
    expect(Array.from(await take(x, int32([2, 1])).data())).toEqual([3, 2]);
    expect(Array.from(x.dataSync())).toEqual([1, 2, 3]);
    await synchronize(device);
  });

  it('reaches every read that was asked for before it was told, once', async () => {
    if (device === 'cpu') return; // there, it is the outputs that are marked
    const x = tensor([1], options);
    take(x, int32([9]));
    const outcomes = await Promise.allSettled([x.data(), x.data(), x.data()]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
    take(x, int32([9]));
    await expect(synchronize(device)).rejects.toThrow('take: indices');
    await synchronize(device);
  });
});
