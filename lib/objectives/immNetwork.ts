// One evaluation of a network as Inductive Moment Matching prescribes it: scaled input, scaled times, the second of which
// networks embed differently. The loss and the samplers share it.
import { tensor } from '../create';
import { ArgumentError, ShapeError } from '../errors';
import { mul, sub } from '../ops/elementwise';
import { reshape } from '../ops/shape';
import { isTensor, type Tensor } from '../tensor';
import { tensorInputScale, timeTensor } from './immCoefficients';
import type { ImmMapping, ImmTimes } from './immMapping';
import type { FlowMapNetwork } from './tvm';

/** A network F(x, t, s) for Inductive Moment Matching. */
export type ImmNetwork = FlowMapNetwork & {
  /**
   * 'raw': the network embeds its second time as it comes. Otherwise (nn.DiT) it is given s and embeds t − s, which it forms
   * itself.
   */
  readonly secondTime?: 'raw' | 'difference';
};

export interface ImmEvaluateOptions {
  mapping: ImmMapping;
  /** The second time the network embeds: s itself, or t − s. Default 'stride'. */
  temb?: 'identity' | 'stride';
  /** What times are multiplied by. Default 1000. */
  timeScale?: number;
  /** Multiply the input by c_in. Default true. */
  inputScaling?: boolean;
  /** int32 [B], −1 for no class. */
  labels?: Tensor | null;
}

/** Holds the options to what the network can do. */
export function checkImmOptions(op: string, net: Pick<ImmNetwork, 'secondTime'>, options: ImmEvaluateOptions): void {
  const { mapping, temb = 'stride', timeScale = 1000 } = options;
  if (typeof mapping?.inputScale !== 'function') {
    throw new ArgumentError(op, `mapping must be what immMapping gives, got ${typeof mapping}`);
  }
  if (temb !== 'identity' && temb !== 'stride') {
    throw new ArgumentError(op, `temb must be 'identity' or 'stride', got '${String(temb)}'`);
  }
  if (temb === 'identity' && net.secondTime !== 'raw') {
    throw new ArgumentError(
      op,
      `temb must be 'stride' for a network that embeds t − s itself (its secondTime is not 'raw'), got 'identity'`,
    );
  }
  if (!Number.isFinite(timeScale) || timeScale <= 0) {
    throw new ArgumentError(op, `timeScale must be a finite number above 0, got ${timeScale}`);
  }
}

/**
 * F = net(c_in x, timeScale t, second): x [B, ...], t, s [B] -> [B, ...]. The second time is timeScale s for a network that
 * forms t − s itself, and else timeScale s ('identity') or timeScale (t − s) ('stride'). ImmTimes reach the network in float64.
 *
 * @throws ArgumentError if an option does not fit the network, or times that are numbers are out of range or order;
 * ShapeError if there is not one time for each row. Of times that are tensors the range is checked on the device where the
 * input is scaled: reading the result then throws `NumericalError`.
 */
export function evaluate(net: ImmNetwork, x: Tensor, t: ImmTimes, s: ImmTimes, options: ImmEvaluateOptions): Tensor {
  const op = 'evaluateImm';
  checkImmOptions(op, net, options);
  const { mapping, temb = 'stride', timeScale = 1000, inputScaling = true, labels = null } = options;
  const batch = x.shape[0]!;
  const stride = temb === 'stride' && net.secondTime === 'raw';
  const upload = (values: ArrayLike<number>) => tensor(Float64Array.from(values), { device: x.device });
  const run = (first: Tensor, second: Tensor, scale: Tensor | null) => {
    const column = [batch, ...new Array<number>(x.rank - 1).fill(1)];
    const input = scale ? mul(x, reshape(scale.to({ dtype: x.dtype }), column)) : x;
    return net.forward(input, first, second, { labels });
  };
  if (isTensor(t) || isTensor(s)) {
    const wide = (name: string, times: ImmTimes) =>
      timeTensor(op, name, isTensor(times) ? times : upload(times), batch);
    const [at, to] = [wide('t', t), wide('s', s)];
    const scale = inputScaling ? tensorInputScale(mapping.options, at) : null;
    return run(mul(at, timeScale), mul(stride ? sub(at, to) : to, timeScale), scale);
  }
  for (const [name, times] of Object.entries({ t, s })) {
    if (times.length !== batch) throw new ShapeError(op, `${name} must have shape [${batch}], got [${times.length}]`);
  }
  for (let i = 0; i < batch; i++) mapping.coefficients(s[i]!, t[i]!); // refuses what is out of range or order
  const seconds = Array.from(s, (time, i) => timeScale * (stride ? t[i]! - time : time));
  return run(
    upload(Array.from(t, (time) => timeScale * time)),
    upload(seconds),
    inputScaling ? upload(Array.from(t, (time) => mapping.inputScale(time))) : null,
  );
}
