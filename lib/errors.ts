// Every error a caller can meet. They are classes of TypeScript's own, made here also for failures found in native
// code, so that `instanceof` holds in every realm.

/** Base of all errors of flowmap. `code` is stable and machine-readable; `op` names the operation that refused. */
export class FlowmapError extends Error {
  readonly code: string = 'ERR_FLOWMAP';
  readonly op: string;

  constructor(op: string, detail: string, options?: ErrorOptions) {
    super(`${op}: ${detail}`, options);
    this.op = op;
    this.name = new.target.name;
  }
}

/** A shape does not fit: wrong rank, sizes that do not match or broadcast, an axis out of range. */
export class ShapeError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_SHAPE';
}

/** An element type the operation does not take, or arguments whose types differ. */
export class DTypeError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_DTYPE';
}

/** A device name that means nothing, or tensors on different devices. */
export class DeviceError extends FlowmapError {
  override readonly code: string = 'ERR_FLOWMAP_DEVICE';
}

/** A device that exists in principle and is not to be had here; the message lists every reason. */
export class DeviceUnavailableError extends DeviceError {
  override readonly code = 'ERR_FLOWMAP_DEVICE_UNAVAILABLE';
}

/** A tensor was used after `dispose()`, or after the `tidy` scope that owned it. */
export class DisposedError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_DISPOSED';
}

/** An argument of the wrong kind or out of range. */
export class ArgumentError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_ARGUMENT';
}

/** Differentiation was asked of something that has no derivative here, or outside its scope. */
export class AutogradError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_AUTOGRAD';
}

/** A device's memory did not suffice; the message has the figures. Everything stays usable. */
export class OutOfMemoryError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_OUT_OF_MEMORY';
}

/** A file is not what it should be. */
export class FormatError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_FORMAT';
}

/** The native addon, or a part of it, could not be loaded; the message says what was tried. */
export class LoadError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_LOAD';
}

/** A value that should be finite is not; the message says which and where. */
export class NumericalError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_NUMERICAL';
}

/** A defect of flowmap itself. */
export class InternalError extends FlowmapError {
  override readonly code = 'ERR_FLOWMAP_INTERNAL';
}

const classes = {
  ERR_FLOWMAP_SHAPE: ShapeError,
  ERR_FLOWMAP_DTYPE: DTypeError,
  ERR_FLOWMAP_DEVICE: DeviceError,
  ERR_FLOWMAP_DEVICE_UNAVAILABLE: DeviceUnavailableError,
  ERR_FLOWMAP_DISPOSED: DisposedError,
  ERR_FLOWMAP_ARGUMENT: ArgumentError,
  ERR_FLOWMAP_OUT_OF_MEMORY: OutOfMemoryError,
  ERR_FLOWMAP_NUMERICAL: NumericalError,
  ERR_FLOWMAP_INTERNAL: InternalError,
} as const;

/** @internal Called by the addon to build what it throws. */
export function makeNativeError(code: keyof typeof classes, op: string, detail: string): FlowmapError {
  const error = new (classes[code] ?? InternalError)(op, detail);
  Error.captureStackTrace(error, makeNativeError);
  return error;
}
