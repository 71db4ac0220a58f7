// Modules: named parameters, and the means to run a module with others in their place.
import type { DType } from '../dtype';
import { ArgumentError, FormatError, ShapeError } from '../errors';
import { dispose, keep, tidy } from '../memory';
import { copyInto } from '../optim/inPlace';
import type { Tensor } from '../tensor';

/** A named place for a tensor: what the module owns, and what stands in for it during {@link functionalCall}. */
class Slot {
  override: Tensor | null = null;
  constructor(
    public own: Tensor,
    readonly trainable: boolean,
  ) {}
  get value(): Tensor {
    return this.override ?? this.own;
  }
}

/** A tensor that belongs to a module and may be moved with it. */
export interface Constant {
  value: Tensor;
}

/** `x` as asked for; another tensor in its place where that is not what it is. */
function replaced(x: Tensor, options: { dtype?: DType; device?: string }): Tensor {
  const { dtype = x.dtype, device = x.device } = options;
  const there = tidy(() => x.to({ dtype, device }));
  if (there === x) return x;
  x.dispose();
  return keep(there);
}

/** What `loadStateDict` found to differ, where `strict` is off. */
export interface LoadReport {
  missing: string[];
  unexpected: string[];
}

/**
 * Base of all layers. A subclass registers its tensors and sub-modules in its constructor, under the names that make up
 * the state-dict keys (`blocks.0.attn.qkv.weight`), and reads its tensors through {@link Module.get}.
 */
export abstract class Module {
  private readonly slots = new Map<string, Slot>();
  private readonly children = new Map<string, Module>();
  private readonly constants: Constant[] = [];

  /** Registers a trainable tensor, which the module from now on owns. */
  protected parameter(name: string, value: Tensor): void {
    this.slots.set(name, new Slot(keep(value), true));
  }

  /** Registers a tensor that is saved with the module but not trained. */
  protected buffer(name: string, value: Tensor): void {
    this.slots.set(name, new Slot(keep(value), false));
  }

  /** Hands over a tensor that is neither trained nor saved, to go with the module and to where it goes. */
  protected constant(value: Tensor): Constant {
    const constant = { value: keep(value) };
    this.constants.push(constant);
    return constant;
  }

  /** Registers a sub-module; dots in the name are part of the keys. */
  protected child<M extends Module>(name: string, module: M): M {
    this.children.set(name, module);
    return module;
  }

  /** The tensor registered under `name`, or what stands in for it now. */
  protected get(name: string): Tensor {
    const slot = this.slots.get(name);
    if (!slot) throw new ArgumentError('Module', `no tensor is registered as '${name}'`);
    return slot.value;
  }

  /** @internal */
  *_slots(prefix = ''): Generator<[string, Slot]> {
    for (const [name, slot] of this.slots) yield [prefix + name, slot];
    for (const [name, module] of this.children) yield* module._slots(`${prefix}${name}.`);
  }

  /** Trainable tensors by dotted name, in order of registration. They stay the module's. */
  namedParameters(): Map<string, Tensor> {
    const found = new Map<string, Tensor>();
    for (const [name, slot] of this._slots()) if (slot.trainable) found.set(name, slot.value);
    return found;
  }

  parameters(): Tensor[] {
    return [...this.namedParameters().values()];
  }

  /** Number of trainable elements. */
  get parameterCount(): number {
    return this.parameters().reduce((count, parameter) => count + parameter.size, 0);
  }

  /** All tensors, trainable or not, by dotted name. They stay the module's. */
  stateDict(): Map<string, Tensor> {
    return new Map([...this._slots()].map(([name, slot]) => [name, slot.value]));
  }

  /**
   * Takes values over, by copy and cast to the module's dtype.
   *
   * @throws FormatError listing every missing and unexpected name, unless `strict` is false; ShapeError if a shape
   * differs. Nothing is changed then.
   */
  loadStateDict(tensors: ReadonlyMap<string, Tensor>, options: { strict?: boolean } = {}): LoadReport {
    const own = this.stateDict();
    const missing = [...own.keys()].filter((name) => !tensors.has(name));
    const unexpected = [...tensors.keys()].filter((name) => !own.has(name));
    if ((options.strict ?? true) && missing.length + unexpected.length > 0) {
      const list = (names: string[]) => (names.length > 0 ? names.join(', ') : 'none');
      throw new FormatError('loadStateDict', `missing: ${list(missing)}; unexpected: ${list(unexpected)}`);
    }
    const pairs = [...own].flatMap(([name, target]) => {
      const source = tensors.get(name);
      return source ? [{ name, target, source }] : [];
    });
    for (const { name, target, source } of pairs) {
      if (source.shape.join() !== target.shape.join()) {
        throw new ShapeError('loadStateDict', `'${name}' must have shape [${target.shape}], got [${source.shape}]`);
      }
    }
    for (const { target, source } of pairs) copyInto(target, source);
    return { missing, unexpected };
  }

  /**
   * Casts all floating tensors, and moves all tensors, in place of the present ones, which are disposed. An optimiser or
   * average of the present ones is to be made anew.
   *
   * @throws DeviceUnavailableError if there is no such device; nothing is changed then
   */
  to({ dtype, device }: { dtype?: DType; device?: string }): this {
    for (const [, slot] of this._slots()) {
      const floating = slot.own.dtype !== 'int32' && slot.own.dtype !== 'bool';
      slot.own = replaced(slot.own, { dtype: floating ? dtype : undefined, device });
    }
    for (const constant of this._constants()) constant.value = replaced(constant.value, { device });
    return this;
  }

  /** @internal */
  *_constants(): Generator<Constant> {
    yield* this.constants;
    for (const module of this.children.values()) yield* module._constants();
  }

  dispose(): void {
    dispose([...this.slots.values()].map((slot) => slot.own));
    dispose(this.constants.map(({ value }) => value));
    for (const module of this.children.values()) module.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Runs `fn` with tensors standing in for a module's own, by name; names not given keep theirs. This is how a gradient by
 * parameters is taken: the stand-ins are the tape's variables.
 *
 * @throws ArgumentError if a name is none of the module's
 */
export function functionalCall<R>(module: Module, tensors: ReadonlyMap<string, Tensor>, fn: () => R): R {
  const slots = new Map(module._slots());
  for (const name of tensors.keys()) {
    if (!slots.has(name)) throw new ArgumentError('functionalCall', `the module has no tensor '${name}'`);
  }
  const before = [...tensors.keys()].map((name) => [slots.get(name)!, slots.get(name)!.override] as const);
  for (const [name, tensor] of tensors) slots.get(name)!.override = tensor;
  try {
    return fn();
  } finally {
    for (const [slot, override] of before) slot.override = override;
  }
}
