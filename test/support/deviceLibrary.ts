// The library for one device: functions that make tensors from nothing make them there.
import * as lib from '../../lib';
import { type CheckOptions, checkOp, type Sample } from './checkOp';

type Library = typeof lib;

export interface DeviceLibrary extends Library {
  checkOp(op: Parameters<typeof checkOp>[0], samples: readonly Sample[], options?: CheckOptions): void;
}

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
