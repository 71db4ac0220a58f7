// What optimisers with two moments share: moments, masters of 16-bit parameters, and the state that a checkpoint keeps.
import { zeros } from '../create';
import { ArgumentError, FormatError, ShapeError } from '../errors';
import { keep } from '../memory';
import { cast } from '../ops/elementwise';
import { isRecording, refuseWhileRecording, vary } from '../recording';
import type { Tensor } from '../tensor';
import { copyInto } from './inPlace';

export interface MomentOptions {
  /** Learning rate. Default 1e-3. */
  lr?: number;
  /** Decays of the first and second moment. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Default 1e-8. */
  eps?: number;
  /** Default 0. */
  weightDecay?: number;
}

/** Everything an optimiser must remember: tensors by name and plain numbers. */
export interface OptimizerState {
  tensors: Map<string, Tensor>;
  step: number;
}

/** What a step changes, all of equal length; `masters` is empty where the parameters have none. */
export interface MomentStep {
  params: number[];
  grads: number[];
  m: number[];
  v: number[];
  masters: number[];
  gradScale: number | null;
  lr: number;
  /** Counts from 1. */
  step: number;
}

/**
 * Base of the optimisers. Moments are float32 (float64 for float64 parameters); 16-bit parameters get float32 masters, on
 * which the steps are made.
 */
export abstract class MomentOptimizer {
  lr: number;
  protected readonly betas: readonly [number, number];
  protected readonly eps: number;
  protected readonly weightDecay: number;
  private readonly names: string[];
  private readonly params: Tensor[];
  private readonly m: Tensor[];
  private readonly v: Tensor[];
  private readonly masters: (Tensor | null)[];
  private steps = 0;

  protected constructor(
    private readonly name: string,
    params: ReadonlyMap<string, Tensor>,
    options: MomentOptions,
  ) {
    const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0 } = options;
    for (const [key, value] of Object.entries({ lr, eps, weightDecay, beta1: betas[0], beta2: betas[1] })) {
      if (!Number.isFinite(value) || value < 0) {
        throw new ArgumentError(name, `${key} must be a finite number of at least 0, got ${value}`);
      }
    }
    this.lr = lr;
    this.betas = betas;
    this.eps = eps;
    this.weightDecay = weightDecay;
    this.names = [...params.keys()];
    this.params = [...params.values()];
    const moment = (p: Tensor) =>
      keep(zeros(p.shape, { dtype: p.dtype === 'float64' ? 'float64' : 'float32', device: p.device }));
    this.m = this.params.map(moment);
    this.v = this.params.map(moment);
    this.masters = this.params.map((p) => {
      if (p.dtype === 'float32' || p.dtype === 'float64') return null;
      return keep(cast(p._primal(), 'float32'));
    });
  }

  /** Calls the kernel. */
  protected abstract launch(step: MomentStep): void;

  /** Steps made so far. */
  get step(): number {
    return this.steps;
  }

  /**
   * One step. `grads` has one gradient for each parameter, by name.
   *
   * @param options `lr` for this step; `gradScale`, a tensor of one float32 that multiplies the gradients (see
   * {@link clipByGlobalNorm})
   * @throws ArgumentError if a gradient is missing; ShapeError, DTypeError if one does not fit; nothing is changed then
   */
  update(grads: ReadonlyMap<string, Tensor>, options: { lr?: number; gradScale?: Tensor | null } = {}): void {
    const { lr = this.lr, gradScale = null } = options;
    if (options.lr !== undefined) {
      refuseWhileRecording(this.name, 'replays would repeat the option lr; set the property lr before the step');
    }
    const list = this.names.map((name) => {
      const gradient = grads.get(name);
      if (!gradient) {
        throw new ArgumentError(this.name, `grads must have an entry for every parameter, '${name}' is missing`);
      }
      return gradient._primal()._handle;
    });
    // Parameters with masters and those without go in one call each.
    for (const withMaster of [false, true]) {
      const chosen = [...this.params.keys()].filter((i) => (this.masters[i] !== null) === withMaster);
      if (chosen.length === 0) continue;
      const handles = (tensors: readonly (Tensor | null)[]) => chosen.map((i) => tensors[i]!._handle);
      this.launch({
        params: handles(this.params),
        grads: chosen.map((i) => list[i]!),
        m: handles(this.m),
        v: handles(this.v),
        masters: withMaster ? handles(this.masters) : [],
        gradScale: gradScale === null ? null : gradScale._handle,
        lr,
        step: this.steps + 1,
      });
      if (isRecording()) vary({ numbers: () => [this.lr, this.steps + 1], undo: () => {} });
    }
    this.advance();
  }

  private advance(): void {
    if (!isRecording()) {
      this.steps += 1;
      return;
    }
    vary({
      numbers: () => {
        this.steps += 1;
        return [];
      },
      undo: () => {
        this.steps -= 1;
      },
    });
  }

  /** The moments and masters themselves, not copies, under `m.<name>`, `v.<name>`, `master.<name>`. */
  stateDict(): OptimizerState {
    const tensors = new Map<string, Tensor>();
    for (const [i, name] of this.names.entries()) {
      tensors.set(`m.${name}`, this.m[i]!);
      tensors.set(`v.${name}`, this.v[i]!);
      const master = this.masters[i];
      if (master) tensors.set(`master.${name}`, master);
    }
    return { tensors, step: this.steps };
  }

  /** Takes over a state, by copy. The next update continues exactly where that state was taken. */
  loadStateDict(state: OptimizerState): void {
    const own = this.stateDict().tensors;
    for (const [name, target] of own) {
      const source = state.tensors.get(name);
      if (!source) throw new FormatError(this.name, `the state lacks '${name}'`);
      if (source.shape.join() !== target.shape.join()) {
        throw new ShapeError(this.name, `'${name}' must have shape [${target.shape}], got [${source.shape}]`);
      }
    }
    for (const name of state.tensors.keys()) {
      if (!own.has(name)) throw new FormatError(this.name, `the state has '${name}', which no parameter here needs`);
    }
    if (!Number.isSafeInteger(state.step) || state.step < 0) {
      throw new FormatError(this.name, `step must be an integer of at least 0, got ${state.step}`);
    }
    for (const [name, target] of own) copyInto(target, state.tensors.get(name)!);
    this.steps = state.step;
  }

  dispose(): void {
    for (const tensor of [...this.m, ...this.v, ...this.masters]) tensor?.dispose();
  }
}
