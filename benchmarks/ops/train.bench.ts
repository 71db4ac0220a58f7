// Whole training steps: loss, gradient by every parameter, optimiser, averages.
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

export function* groups(): Iterable<{ title: string; subjects: Subject[] }> {
  const cases: [string, nn.DiTOptions, number][] = [
    [
      'digits: width 96, depth 4, 16 tokens, batch 32',
      { imageSize: 28, patchSize: 7, channels: 1, width: 96, depth: 4, heads: 4, classes: 10, timeFrequencies: 64 },
      32,
    ],
    [
      'width 256, depth 6, 49 tokens, batch 64',
      { imageSize: 28, patchSize: 4, channels: 1, width: 256, depth: 6, heads: 8, classes: 10 },
      64,
    ],
  ];
  for (const [title, options, batch] of cases) {
    const net = new nn.DiT(options);
    const params = net.namedParameters();
    const [optimizer, ema, teacher] = [new AdamW(params), new Ema(params, 0.999), new Ema(params, 0.99)];
    const x = randn([batch, options.channels, options.imageSize, options.imageSize]);
    const labels = tensor(Int32Array.from({ length: batch }, (_, i) => i % 10));
    const step = (loss: () => Tensor) => () => {
      const gradients = valueAndGrad((p: Map<string, Tensor>) => functionalCall(net, p, loss))(params)[1];
      optimizer.update(gradients);
      ema.update();
      teacher.update();
    };
    yield {
      title,
      subjects: [
        { name: 'flow matching step', run: step(() => flowMatchingLoss(net, { x, labels }).loss) },
        {
          name: 'Terminal Velocity Matching step',
          run: step(() => tvmLoss(net, teacher.tensors, { x, labels }, { guidance: { cfg: 2 } }).loss),
        },
      ],
    };
  }
}
