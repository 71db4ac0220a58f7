// Tests of kernels run on every device there is: the CPU, and CUDA, real or (FLOWMAP_CUDA=emulated) interpreted. One that
// is absent is a visible skip, and a failure where FLOWMAP_DEVICES ('cpu,cuda-emulated') asks for it.
import * as lib from '../../lib';
import { type CheckOptions, checkOp, type Sample } from './checkOp';

type Library = typeof lib;

export interface DeviceLibrary extends Library {
  checkOp(op: Parameters<typeof checkOp>[0], samples: readonly Sample[], options?: CheckOptions): void;
}

/** The library, whose functions that make tensors from nothing make them on `device`. */
export function on(device: string): DeviceLibrary {
  return {
    ...lib,
    tensor: (data, options) => lib.tensor(data, { device, ...options }),
    full: (shape, value, options) => lib.full(shape, value, { device, ...options }),
    zeros: (shape, options) => lib.zeros(shape, { device, ...options }),
    ones: (shape, options) => lib.ones(shape, { device, ...options }),
    arange: (start, stop, step, options) => lib.arange(start, stop, step, { device, ...options }),
    eye: (rows, columns, options) => lib.eye(rows, columns, { device, ...options }),
    randn: (shape, options) => lib.randn(shape, { device, ...options }),
    rand: (shape, options) => lib.rand(shape, { device, ...options }),
    randint: (low, high, shape, options) => lib.randint(low, high, shape, { device, ...options }),
    randperm: (n, options) => lib.randperm(n, { device, ...options }),
    checkOp: (op, samples, options) => checkOp(op, samples, { device, ...options }),
  };
}

interface TestDevice {
  label: 'cpu' | 'cuda' | 'cuda-emulated';
  /** Why it cannot be used; absent where it can. */
  reason?: string;
}

function list(): TestDevice[] {
  const cuda = lib.cudaFeatures();
  const found: TestDevice[] = [{ label: 'cpu' }];
  const here = cuda.emulated ? 'cuda-emulated' : 'cuda';
  found.push(cuda.devices.length > 0 ? { label: here } : { label: here, reason: cuda.reason ?? 'no device' });
  return found;
}

export const devices: readonly TestDevice[] = list();
const asked = (process.env.FLOWMAP_DEVICES ?? '').split(',').filter((name) => name !== '');

/** Declares the tests of `body` once per device: `describe` for devices. */
export function describeOnDevices(body: (fm: DeviceLibrary, device: string) => void): void {
  for (const label of asked) {
    if (devices.some((device) => device.label === label)) continue;
    describe(`on ${label}`, () => {
      it('runs where FLOWMAP_DEVICES asks for it', () => {
        throw new Error(`this process has ${devices.map((device) => device.label).join(' and ')}, not ${label}`);
      });
    });
  }
  for (const { label, reason } of devices) {
    if (asked.length > 0 && !asked.includes(label)) continue;
    const device = label === 'cpu' ? 'cpu' : 'cuda';
    if (reason === undefined) {
      describe(`on ${label}`, () => body(on(device), device));
    } else if (asked.length > 0) {
      describe(`on ${label}`, () => {
        it('runs where FLOWMAP_DEVICES asks for it', () => {
          throw new Error(reason);
        });
      });
    } else {
      describe.skip(`on ${label} (${reason})`, () => body(on(device), device));
    }
  }
}
