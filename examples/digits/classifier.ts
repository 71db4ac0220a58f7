// A small convolutional classifier, trained here: its features are what samples are judged by.
import {
  AdamW,
  add,
  concat,
  functionalCall,
  Generator,
  keep,
  maximum,
  mul,
  nn,
  oneHot,
  rand,
  randint,
  randperm,
  reshape,
  slice,
  sub,
  sum,
  type Tensor,
  take,
  tensor,
  tidy,
  valueAndGrad,
} from 'flowmap';
import type { Digits } from './data';
import { pixels } from './recipe';

const features = 64;

/** For each output pixel its 3 × 3 neighbours as indices into the flattened image; one past the end is the zero border. */
function neighbours(side: number): Tensor {
  const indices = new Int32Array(side * side * 9);
  let at = 0;
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          const [y, x] = [row + dy, column + dx];
          const inside = y >= 0 && y < side && x >= 0 && x < side;
          indices[at++] = inside ? y * side + x : side * side;
        }
      }
    }
  }
  return tensor(indices);
}

/** Weights uniform within 1 / √inputs: the start the metric's published figures were taken with. */
function layer(inputs: number, outputs: number, generator: Generator): nn.Linear {
  const bound = 1 / Math.sqrt(inputs);
  return new nn.Linear(inputs, outputs, { weight: rand([outputs, inputs], { low: -bound, high: bound, generator }) });
}

/** 3 × 3 convolution, ReLU and 2 × 2 maximum, on [B, side², in] -> [B, (side/2)², out]. */
class ConvolutionBlock extends nn.Module {
  private readonly weights: nn.Linear;
  private readonly indices: nn.Constant;

  constructor(
    private readonly side: number,
    private readonly inputs: number,
    outputs: number,
    generator: Generator,
  ) {
    super();
    this.weights = this.child('conv', layer(9 * inputs, outputs, generator));
    this.indices = this.constant(neighbours(side));
  }

  forward(x: Tensor): Tensor {
    const { side, inputs } = this;
    const [batch] = x.shape as [number];
    const bordered = concat([x, slice(x, [0, 0], [batch, 1]).mul(0)], 1);
    const patches = reshape(take(bordered, this.indices.value, 1), [batch, side * side, 9 * inputs]);
    const y = maximum(this.weights.forward(patches), 0);
    const outputs = y.shape[2]!;
    const half = Math.floor(side / 2);
    const grid = reshape(y, [batch, side, side, outputs]);
    const corner = (dy: number, dx: number) =>
      slice(grid, [0, dy, dx], [batch, dy + 2 * half - 1, dx + 2 * half - 1], [1, 2, 2, 1]);
    const pooled = maximum(maximum(corner(0, 0), corner(0, 1)), maximum(corner(1, 0), corner(1, 1)));
    return reshape(pooled, [batch, half * half, outputs]);
  }
}

export class Classifier extends nn.Module {
  private readonly blocks: ConvolutionBlock[];
  private readonly hidden: nn.Linear;
  private readonly last: nn.Linear;

  constructor(generator: Generator) {
    super();
    this.blocks = [
      this.child('0', new ConvolutionBlock(28, 1, 16, generator)),
      this.child('1', new ConvolutionBlock(14, 16, 32, generator)),
      this.child('2', new ConvolutionBlock(7, 32, 64, generator)),
    ];
    this.hidden = this.child('hidden', layer(9 * 64, features, generator));
    this.last = this.child('last', layer(features, 10, generator));
  }

  /** Normalised pixels [B, 784] -> features [B, 64] and logits [B, 10] */
  forward(x: Tensor): { features: Tensor; logits: Tensor } {
    const [batch] = x.shape as [number];
    let y = reshape(x, [batch, 784, 1]);
    for (const block of this.blocks) y = block.forward(y);
    const last = maximum(this.hidden.forward(reshape(y, [batch, -1])), 0);
    return { features: last, logits: this.last.forward(last) };
  }
}

function crossEntropy(logits: Tensor, labels: Tensor): Tensor {
  const shifted = sub(logits, logits.max(-1, { keepDims: true }));
  const logSum = sum(shifted.exp(), -1).log();
  return sub(logSum, sum(mul(shifted, oneHot(labels, 10)), -1)).mean();
}

function upload(values: Float32Array): Tensor {
  return tensor(
    values.map((value) => (value - pixels.mean) / pixels.std),
    { shape: [values.length / 784, 784] },
  );
}

/** Where each pixel of an image shifted by (dy, dx) comes from; outside is the background, one past the end. */
function shifted(dy: number, dx: number): Tensor {
  const indices = Int32Array.from({ length: 784 }, (_, i) => {
    const [y, x] = [Math.floor(i / 28) - dy, (i % 28) - dx];
    return y >= 0 && y < 28 && x >= 0 && x < 28 ? y * 28 + x : 784;
  });
  return tensor(indices);
}

/** Ten epochs of AdamW with one cycle of the learning rate, images shifted by up to two pixels. */
export function trainClassifier(train: Digits, seed = 0, epochs = 10): Classifier {
  const [batch, peak] = [100, 4e-3];
  const generator = new Generator(seed + 1000);
  const net = new Classifier(generator);
  const params = net.namedParameters();
  const optimizer = new AdamW(params, { weightDecay: 0.01 });
  const images = keep(upload(train.pixels));
  const labels = keep(tensor(train.labels));
  const perEpoch = Math.floor(train.labels.length / batch);
  const total = epochs * perEpoch;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = keep(randperm(train.labels.length, { generator }));
    const shifts = tidy(() => randint(-2, 3, [2 * perEpoch], { generator }).dataSync());
    for (let i = 0; i < perEpoch; i++) {
      const at = epoch * perEpoch + i;
      const rise = 0.2 * total;
      const lr =
        at < rise ? (peak * (at + 1)) / rise : (peak / 2) * (1 + Math.cos((Math.PI * (at - rise)) / (total - rise)));
      tidy(() => {
        const rows = slice(order, [i * batch], [(i + 1) * batch]);
        const plain = take(images, rows);
        const background = add(mul(slice(plain, [0, 0], [batch, 1]), 0), -pixels.mean / pixels.std);
        const moved = take(concat([plain, background], 1), shifted(shifts[2 * i]!, shifts[2 * i + 1]!), 1);
        const wanted = take(labels, rows);
        const loss = (p: Map<string, Tensor>) =>
          functionalCall(net, p, () => crossEntropy(net.forward(moved).logits, wanted));
        optimizer.update(valueAndGrad(loss)(params)[1], { lr });
      });
    }
    order.dispose();
  }
  for (const x of [images, labels]) x.dispose();
  optimizer.dispose();
  return net;
}

export interface Classified {
  /** [count, 64] */
  features: Float64Array;
  predictions: Int32Array;
}

export function classify(net: Classifier, values: Float32Array): Classified {
  const count = values.length / 784;
  const out = { features: new Float64Array(count * features), predictions: new Int32Array(count) };
  for (let begin = 0; begin < count; begin += 250) {
    tidy(() => {
      const result = net.forward(upload(values.subarray(begin * 784, Math.min(count, begin + 250) * 784)));
      out.features.set(result.features.dataSync(), begin * features);
      out.predictions.set(result.logits.argmax(-1).dataSync(), begin);
    });
  }
  return out;
}

export function agreement(predictions: Int32Array, labels: Int32Array): number {
  return predictions.reduce((right, value, i) => right + Number(value === labels[i]), 0) / labels.length;
}
