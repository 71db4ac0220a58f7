// Whole training steps of a DiT: loss, gradient by every parameter, optimiser, averages.
import {
  AdamW,
  Ema,
  flowMatchingLoss,
  functionalCall,
  nn,
  randn,
  type Tensor,
  tensor,
  tvmLoss,
  valueAndGrad,
} from '../../lib';
import type { Subject } from '../support/measure';

export function trainingSteps(options: nn.DiTOptions, batch: number, cfg = 2): Subject[] {
  const net = new nn.DiT(options);
  const params = net.namedParameters();
  const [optimizer, ema, teacher] = [new AdamW(params), new Ema(params, 0.999), new Ema(params, 0.99)];
  const x = randn([batch, options.channels, options.imageSize, options.imageSize]);
  const labels = tensor(Int32Array.from({ length: batch }, (_, i) => i % options.classes));
  const step = (loss: () => Tensor) => () => {
    const gradients = valueAndGrad((p: Map<string, Tensor>) => functionalCall(net, p, loss))(params)[1];
    optimizer.update(gradients);
    ema.update();
    teacher.update();
  };
  return [
    { name: 'flow matching step', steps: 1, run: step(() => flowMatchingLoss(net, { x, labels }).loss) },
    {
      name: 'Terminal Velocity Matching step',
      steps: 1,
      run: step(() => tvmLoss(net, teacher.tensors, { x, labels }, { guidance: { cfg } }).loss),
    },
  ];
}
