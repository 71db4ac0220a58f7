// Times a step by its parts, and weighs its memory by what holds it. Each part's time is from idle device to idle device, what
// the host takes to queue the work included.
import { Generator, matmul, memory, randn, resetPeakMemory, slice, synchronizeSync, type Tensor, tidy } from 'flowmap';
import { type Inputs, type Layer, type Place, valueAndTangent } from './layer';

export interface Seconds {
  /** Value and tangent of the layer. */
  forward: number;
  /** The gradients of both, without what is computed again for them. */
  backward: number;
  /** The layer again, within the backward pass. */
  recomputation: number;
  optimizer: number;
}

export interface StepFigures {
  seconds: Seconds;
  /** Bytes held between forward and backward: results, and what the gradients will need. */
  kept: number;
  /** The highest that was in use, all in all. */
  peak: number;
}

export const total = ({ forward, backward, recomputation, optimizer }: Seconds): number =>
  forward + backward + recomputation + optimizer;

/** Bytes in use, once the device is idle. */
export function bytesInUse(device: string): number {
  synchronizeSync(device);
  return memory(device).bytes;
}

/** Reads an element of each: throws what went wrong, want of memory above all. */
export function settle(tensors: Iterable<Tensor>): void {
  tidy(() => {
    for (const x of tensors) {
      const corner = x.shape.map(() => 1);
      slice(
        x,
        corner.map(() => 0),
        corner,
      ).dataSync();
    }
  });
}

/** One step of training. */
export function measureStep(
  layer: Layer,
  inputs: Inputs,
  options: { checkpoint: boolean; device: string },
): StepFigures {
  const { device, checkpoint } = options;
  const now = () => {
    synchronizeSync(device);
    return performance.now() / 1000;
  };
  let inside = 0;
  const watch = <R>(run: () => R): R => {
    const begin = now();
    const result = run();
    inside += now() - begin;
    return result;
  };
  return tidy(() => {
    const before = bytesInUse(device);
    resetPeakMemory(device);
    let begin = now();
    const [[y, ty], pullback] = valueAndTangent(layer.block, inputs, { checkpoint, watch });
    try {
      const forward = now() - begin;
      const kept = bytesInUse(device) - before;
      settle([y, ty]);

      inside = 0;
      begin = now();
      const [params, ...others] = pullback([inputs.gy, inputs.gty]) as [Map<string, Tensor>, ...Tensor[]];
      pullback.dispose();
      const back = now() - begin;
      settle([...params.values(), ...others]);

      begin = now();
      layer.optimizer.update(params);
      const optimizer = now() - begin;
      settle(layer.block.parameters());
      return {
        seconds: { forward, backward: back - inside, recomputation: inside, optimizer },
        kept,
        peak: memory(device).peakBytes,
      };
    } finally {
      pullback.dispose();
    }
  });
}

export interface GemmRate {
  /** Rows and columns of both factors. */
  n: number;
  /** Operations a second: the median of five products, one at a time. */
  rate: number;
}

/** What matrix products reach here: n³, of random numbers. */
export function measureGemm(n: number, place: Place): GemmRate {
  return tidy(() => {
    const generator = new Generator(1);
    const [a, b] = [0, 1].map(() => randn([n, n], { ...place, generator })) as [Tensor, Tensor];
    const times: number[] = [];
    for (let i = 0; i < 6; i++) {
      synchronizeSync(place.device);
      const begin = performance.now();
      const product = tidy(() => matmul(a, b, { transposeB: true }));
      synchronizeSync(place.device);
      if (i > 0) times.push((performance.now() - begin) / 1000);
      else settle([product]);
      product.dispose();
    }
    return { n, rate: (2 * n ** 3) / times.sort((one, other) => one - other)[2]! };
  });
}
