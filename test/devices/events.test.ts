// Events on a device's stream, by which benchmarks time, and the device's own copy, beside which they put kernels.
import {
  ArgumentError,
  captureGraph,
  DeviceError,
  DisposedError,
  matmul,
  memory,
  ones,
  randn,
  synchronizeSync,
  take,
  tensor,
  tidy,
} from '../../lib';
import { elapsedSeconds, recordEvent, vendorCopy } from '../../lib/timing';
import { describeOnDevices } from '../support/devices';

describeOnDevices('events', (device) => {
  const work = () =>
    tidy(() => {
      const x = ones([40, 40], { device });
      matmul(x, x);
    });

  it('are in the order of the work, and times between them add up', () => {
    const events = [0, 1, 2].map(() => {
      work();
      return recordEvent(device);
    });
    const [a, b, c, d] = [...events, recordEvent(device)] as [number, number, number, number];
    const [ab, bc, ac, cd] = elapsedSeconds([a, b, a, c], [b, c, c, d]) as [number, number, number, number];
    for (const seconds of [ab, bc, cd]) expect(seconds).toBeGreaterThanOrEqual(0);
    expect(ab).toBeGreaterThan(0);
    expect(ac).toBeCloseTo(ab + bc, 5);
  });

  it('time what was put between them, not what came before or after', () => {
    const start = recordEvent(device);
    for (let i = 0; i < 10; i++) work();
    const [from, to] = [recordEvent(device), recordEvent(device)];
    for (let i = 0; i < 10; i++) work();
    const end = recordEvent(device);
    const [whole, before, between, after] = elapsedSeconds([start, start, from, to], [end, from, to, end]) as [
      number,
      number,
      number,
      number,
    ];
    expect(before + between + after).toBeCloseTo(whole, 5);
    expect(before).toBeGreaterThan(0);
    expect(after).toBeGreaterThan(0);
    expect(between).toBeGreaterThanOrEqual(0);
    expect(between).toBeLessThan(whole);
  });

  it('are used up by being read', () => {
    const [from, to] = [recordEvent(device), recordEvent(device)];
    expect(elapsedSeconds([from], [to])).toHaveLength(1);
    for (const event of [from, to, 0, -1, 1.5, Number.NaN]) {
      expect(() => elapsedSeconds([event], [event])).toThrow(DisposedError);
    }
    expect(elapsedSeconds([], [])).toEqual([]);
  });

  it('come in pairs', () => {
    const event = recordEvent(device);
    expect(() => elapsedSeconds([event], [])).toThrow(ArgumentError);
    expect(() => elapsedSeconds([event], [])).toThrow(/elapsedSeconds: to must have as many events as from, 1, got 0/);
    expect(elapsedSeconds([event], [event])).toEqual([0]);
  });

  it('hold no memory of the device', () => {
    synchronizeSync(device);
    const before = memory(device);
    const events = Array.from({ length: 50 }, () => recordEvent(device));
    elapsedSeconds(events.slice(1), events.slice(0, -1));
    expect(memory(device)).toMatchObject({ bytes: before.bytes, tensors: before.tensors });
  });

  if (device === 'cpu') return;

  it('of two devices have no time between them', () => {
    const [here, there] = [recordEvent(device), recordEvent('cpu')];
    expect(() => elapsedSeconds([here], [there])).toThrow(DeviceError);
    expect(elapsedSeconds([here], [here])).toEqual([0]);
  });

  it('tell of a fault that no read has told of, and are of use again afterwards', () => {
    const [x, bad] = [ones([3], { device }), tensor(Int32Array.of(7), { device })];
    const from = recordEvent(device);
    take(x, bad);
    const to = recordEvent(device);
    expect(() => elapsedSeconds([from], [to])).toThrow(/take: /);
    expect(elapsedSeconds([recordEvent(device)], [recordEvent(device)])[0]).toBeGreaterThanOrEqual(0);
  });

  it('cannot be part of a recorded step', () => {
    const step = captureGraph((x) => {
      recordEvent(device);
      return x.mul(2);
    });
    const x = ones([4], { device });
    step(x);
    expect(() => step(x)).toThrow(/recordEvent: a step is being recorded/);
  });
});

describeOnDevices("the device's own copy", (device) => {
  it('has the bits of what it copies, in memory of its own', () => {
    for (const shape of [[0], [1], [3, 5], [257, 33]]) {
      const x = randn(shape, { device });
      const y = vendorCopy(x);
      expect([y.shape, y.dtype, y.device]).toEqual([x.shape, x.dtype, x.device]);
      const before = Array.from(x.dataSync());
      x.dispose();
      expect(Array.from(y.dataSync())).toEqual(before);
    }
    expect(Array.from(vendorCopy(tensor([1, 0, 1], { dtype: 'bool', device })).dataSync())).toEqual([1, 0, 1]);
  });
});
