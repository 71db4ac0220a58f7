// Exponential moving averages of parameters.
import { ArgumentError } from '../errors';
import { keep } from '../memory';
import { native } from '../native';
import { cast } from '../ops/elementwise';
import { copy } from '../ops/shape';
import type { Tensor } from '../tensor';
import { copyInto } from './inPlace';

/** An average of named parameters: average ← decay · average + (1 − decay) · parameter, from a copy of them, no warm-up. */
export class Ema {
  /** The averages, by the parameters' names; float32 where the parameters are 16-bit. */
  readonly tensors: ReadonlyMap<string, Tensor>;

  constructor(
    private readonly params: ReadonlyMap<string, Tensor>,
    readonly decay: number,
  ) {
    if (!(decay >= 0 && decay <= 1)) throw new ArgumentError('Ema', `decay must be in [0, 1], got ${decay}`);
    this.tensors = new Map(
      [...params].map(([name, p]) => [
        name,
        keep(p.dtype === 'float64' || p.dtype === 'float32' ? copy(p._primal()) : cast(p._primal(), 'float32')),
      ]),
    );
  }

  /** Starts again from the parameters as they are. */
  reset(): void {
    for (const [name, average] of this.tensors) copyInto(average, this.params.get(name)!);
  }

  /** Takes the parameters as they are into the average. */
  update(): void {
    const handles = (tensors: ReadonlyMap<string, Tensor>) => [...tensors.values()].map((x) => x._handle);
    native.emaUpdate(handles(this.tensors), handles(this.params), this.decay);
  }

  dispose(): void {
    for (const tensor of this.tensors.values()) tensor.dispose();
  }
}
