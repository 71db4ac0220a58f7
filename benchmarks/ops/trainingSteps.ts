// Whole training steps of a DiT: loss, gradient by every parameter, optimiser, averages.
import {
  AdamW,
  captureGraph,
  drawFlowMatchingBatch,
  drawImmBatch,
  drawTvmBatch,
  Ema,
  flowMatchingLoss,
  functionalCall,
  immLoss,
  immMapping,
  immPresets,
  isTensor,
  nn,
  randn,
  type Tensor,
  tensor,
  tvmLoss,
  valueAndGrad,
} from '../../lib';
import type { Subject } from '../support/measure';

type Batch = Record<string, Tensor | boolean | null>;

interface Objective {
  name: string;
  draw: () => Batch;
  loss: (batch: Batch) => Tensor;
}

/** Steps as they are, and recorded ones on batches drawn beforehand, which is what `train` takes. */
export function trainingSteps(
  options: nn.DiTOptions,
  batch: number,
  cfg = 2,
): { plain: Subject[]; recorded: Subject[] } {
  const net = new nn.DiT(options);
  const params = net.namedParameters();
  const [optimizer, ema, teacher] = [new AdamW(params), new Ema(params, 0.999), new Ema(params, 0.99)];
  const x = randn([batch, options.channels, options.imageSize, options.imageSize]);
  const labels = tensor(Int32Array.from({ length: batch }, (_, i) => i % options.classes));
  const draws = { guidance: { cfg } };
  const moments = { mapping: immMapping(immPresets.digits), particles: Math.min(4, batch) };
  const objectives: Objective[] = [
    {
      name: 'flow matching step',
      draw: () => ({ ...drawFlowMatchingBatch({ x, labels }) }),
      loss: (drawn) => flowMatchingLoss(net, { x, labels, ...drawn }).loss,
    },
    {
      name: 'Terminal Velocity Matching step',
      draw: () => ({ ...drawTvmBatch({ x, labels }, draws) }),
      loss: (drawn) => tvmLoss(net, teacher.tensors, { x, labels, ...drawn }, draws).loss,
    },
    {
      name: 'Inductive Moment Matching step',
      draw: () => ({ ...drawImmBatch({ x, labels }, moments) }),
      loss: (drawn) => immLoss(net, { x, labels, ...drawn }, { ...moments, timeScale: 1, inputScaling: false }).loss,
    },
  ];
  const step = (loss: () => Tensor) => {
    const gradients = valueAndGrad((p: Map<string, Tensor>) => functionalCall(net, p, loss))(params)[1];
    optimizer.update(gradients);
    ema.update();
    teacher.update();
  };
  const recordedOf = ({ draw, loss }: Objective) => {
    const first = draw();
    const names = Object.keys(first).filter((name) => isTensor(first[name]));
    const run = captureGraph((...given: Tensor[]) =>
      step(() => loss({ ...first, ...Object.fromEntries(names.map((name, i) => [name, given[i]!])) })),
    );
    return () => {
      const drawn = draw();
      run(...names.map((name) => drawn[name] as Tensor));
    };
  };
  return {
    plain: objectives.map(({ name, loss }) => ({ name, steps: 1, run: () => step(() => loss({})) })),
    recorded: objectives.map((objective) => ({
      name: `${objective.name}, recorded`,
      steps: 1,
      run: recordedOf(objective),
    })),
  };
}
