// One block with its optimiser, what it is fed, and the step: forward with tangent, backward of both, AdamW.
import {
  AdamW,
  checkpoint,
  copyInto,
  functionalCall,
  type Generator,
  jvp,
  keep,
  nn,
  randn,
  type Tensor,
  tidy,
  vjp,
  zeros,
} from 'flowmap';
import type { FloatType, Model } from './options';

export interface Place {
  dtype: FloatType;
  device: string;
}

/** x, tx, gy, gty [B, S, D]; condition, tcondition [B, D]. */
export interface Inputs {
  x: Tensor;
  condition: Tensor;
  /** Tangents: a network's derivative by time reaches a layer along both. */
  tx: Tensor;
  tcondition: Tensor;
  /** Cotangents of the output and of its tangent, as later layers would send them. */
  gy: Tensor;
  gty: Tensor;
}

/** Of order one everywhere, gates included: adaLN's own start, at zero, would make the block the identity. */
function fill(params: ReadonlyMap<string, Tensor>, { dtype, device }: Place, generator: Generator): void {
  for (const [name, param] of params) {
    tidy(() => {
      const noise = randn(param.shape, { dtype, device, generator });
      const [, inputs] = param.shape;
      const start = inputs ? noise.mul(1 / Math.sqrt(inputs)) : noise.mul(0.1);
      copyInto(param, name.endsWith('norm.weight') ? start.add(1) : start);
    });
  }
}

export function makeBlock({ width, heads, mlpRatio }: Model, place: Place, generator: Generator): nn.DiTBlock {
  const makeWeight = (outputs: number, inputs: number) => zeros([outputs, inputs], place);
  const block = new nn.DiTBlock(width, heads, { mlpRatio, makeWeight }).to(place);
  fill(block.namedParameters(), place, generator);
  return block;
}

export function makeInputs(model: Model, batch: number, tokens: number, place: Place, generator: Generator): Inputs {
  const draw = (...shape: number[]) => randn([...shape, model.width], { ...place, generator });
  const sequence = () => draw(batch, tokens);
  return keep({
    x: sequence(),
    condition: draw(batch),
    tx: sequence(),
    tcondition: draw(batch),
    gy: sequence(),
    gty: sequence(),
  });
}

/**
 * The layer's value and tangent, [y, ty], and the pullback of both to parameters, inputs and tangents.
 *
 * @param watch runs the layer's computation: a second time, in the backward pass, where it is checkpointed
 */
export function valueAndTangent(
  block: nn.DiTBlock,
  { x, condition, tx, tcondition }: Inputs,
  options: { checkpoint: boolean; watch?: <R>(run: () => R) => R },
) {
  const { watch = (run) => run() } = options;
  const run = (params: Map<string, Tensor>, x: Tensor, condition: Tensor) =>
    watch(() => functionalCall(block, params, () => block.forward(x, condition)));
  const layer = options.checkpoint ? checkpoint(run, { captures: [] }) : run;
  return vjp(
    (params: Map<string, Tensor>, x: Tensor, condition: Tensor, tx: Tensor, tcondition: Tensor) =>
      jvp((x: Tensor, condition: Tensor) => layer(params, x, condition), [x, condition], [tx, tcondition]),
    [block.namedParameters(), x, condition, tx, tcondition],
  );
}

/** A block in training. */
export interface Layer {
  block: nn.DiTBlock;
  optimizer: AdamW;
}

export function makeOptimizer(block: nn.DiTBlock): AdamW {
  return new AdamW(block.namedParameters(), { lr: 1e-4, weightDecay: 0.01 });
}
