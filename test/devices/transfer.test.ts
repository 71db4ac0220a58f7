// Values on their way: into a device, out of it, and from one to another, on every device.
import { add, checkFinite, DeviceError, type DType, full, memory, synchronize, type Tensor, tensor } from '../../lib';
import { describeOnDevices } from '../support/devices';

const values = (x: Tensor) => Array.from(x.dataSync());

describeOnDevices('transfer', (device) => {
  const onDevice = (data: number[], dtype: DType = 'float32') => tensor(data, { dtype, device });

  it('brings every element type there and back unchanged', async () => {
    const samples: [DType, number[]][] = [
      ['float32', [0.1, -2.5e30, Number.POSITIVE_INFINITY].map(Math.fround)],
      ['float64', [0.1, Math.PI, -1e300]],
      ['int32', [0, -1, 2 ** 31 - 1, -(2 ** 31)]],
      ['bool', [0, 1, 1]],
    ];
    for (const [dtype, data] of samples) {
      const x = onDevice(data, dtype);
      expect(x.dtype).toBe(dtype);
      expect(values(x)).toEqual(data);
      expect(Array.from(await x.data())).toEqual(data);
      expect(values(x.to({ device: 'cpu' }))).toEqual(data);
    }
  });

  it('takes what an array holds at the call, not what it holds later', async () => {
    const data = new Float32Array(100_000).fill(3);
    const x = tensor(data, { device });
    data.fill(4);
    expect((await x.data())[99_999]).toBe(3);
  });

  it('reads in any order, many at once', async () => {
    const tensors = Array.from({ length: 200 }, (_, i) => onDevice([i, -i]));
    const reads = [...tensors].reverse().map((x) => x.data());
    const late = tensors.map((x) => x.dataSync()[0]);
    const early = (await Promise.all(reads)).map((data) => data[1]);
    expect(late).toEqual(tensors.map((_, i) => i));
    expect(early).toEqual(tensors.map((_, i) => -(199 - i)));
  });

  it('keeps the values of a tensor that is disposed right after it is read', async () => {
    const x = onDevice([5, 6]);
    const read = x.data();
    x.dispose();
    for (let i = 0; i < 20; i++) onDevice([0, 0]).dispose();
    expect(Array.from(await read)).toEqual([5, 6]);
  });

  it('has tensors without elements', async () => {
    const x = onDevice([]);
    expect(values(x)).toEqual([]);
    expect((await x.to({ device: 'cpu' }).data()).length).toBe(0);
  });

  it('copies to and from the CPU, in the order of both streams', async () => {
    const a = tensor(new Float32Array(10_000).fill(1));
    const b = add(a, 1).to({ device });
    a.dispose();
    const c = add(b.to({ device: 'cpu' }), 1).to({ device });
    b.dispose();
    expect((await c.data())[9_999]).toBe(3);
    expect(c.to({ device: 'cpu' }).device).toBe('cpu');
  });

  it('does not block JavaScript while values travel', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const x = tensor(new Float32Array(1 << 22).fill(2), { device });
    for (let i = 0; i < 10; i++) await x.to({ device: 'cpu' }).data();
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
  });

  it('passes the error of a tensor on to its copy', async () => {
    const bad = full([2], 0, { device }).add(1);
    const failed = checkFinite(bad.div(0), 'the quotient');
    await expect(failed.to({ device: 'cpu' }).data()).rejects.toThrow(/quotient/);
  });

  it('refuses operands of different devices with a typed error', () => {
    if (device === 'cpu') return;
    const error = /add: b must be on cuda:0, got a tensor on cpu/;
    expect(() => add(onDevice([1]), tensor([1]))).toThrow(DeviceError);
    expect(() => add(onDevice([1]), tensor([1]))).toThrow(error);
  });

  it('knows a device by both of its names', async () => {
    if (device === 'cpu') return;
    const x = tensor([1], { device: 'cuda' });
    expect(x.device).toBe('cuda:0');
    expect(values(add(x, tensor([2], { device: 'cuda:0' })))).toEqual([3]);
    await synchronize('cuda');
    expect(memory('cuda').bytes).toBe(memory('cuda:0').bytes);
  });
});
