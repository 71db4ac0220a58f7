// Whole training steps (loss, gradients, optimiser, averages of the weights), recorded and not, beside PyTorch and JAX, from the same weights and the same batch: the losses and the gradients must agree before the times mean anything.
import {
  AdamW,
  type CapturedStep,
  captureGraph,
  Ema,
  flowMatchingLoss,
  functionalCall,
  immLoss,
  immMapping,
  immPresets,
  nn,
  rand,
  randn,
  type Tensor,
  tensor,
  tvmLoss,
  valueAndGrad,
} from '../../lib';
import { inJax, inPyTorch, type Peers } from '../baselines/peers';
import type { Group } from '../cpu';
import type { Subject } from '../support/measure';

type Case = readonly [title: string, options: nn.DiTOptions, batch: number];

const networks: readonly Case[] = [
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

const particles = 4;
const mapping = immMapping(immPresets.digits);

/**
 * Leaves float32 weights as they are, and no compiler leaves out the update for it, as for zero; nor is it so small that
 * products with it are slow subnormal numbers.
 */
const idleRate = 1e-20;

/**
 * A group of Inductive Moment Matching shares times and class. Early and apart as times are here, r is not so near t that
 * little of a difference of float32 outputs is left to compare.
 */
function immBatch(x: Tensor, noise: Tensor, classes: number) {
  const groups = x.shape[0]! / particles;
  const uniform = () => Array.from((rand([groups], { dtype: 'float64' }).dataSync() as Float64Array).values());
  const s = uniform().map((u) => 0.3 * u);
  const t = uniform().map((u, g) => s[g]! + 0.1 + 0.2 * u);
  const r = t.map((time, g) => mapping.r(s[g]!, time));
  const onDevice = (times: number[]) => tensor(Float64Array.from(times));
  const labels = tensor(Int32Array.from({ length: x.shape[0]! }, (_, i) => Math.floor(i / particles) % classes));
  return { x, noise, labels, t: onDevice(t), s: onDevice(s), r: onDevice(r) };
}

export async function* groups(peers: Peers, cases = networks): AsyncIterable<Group> {
  for (const [title, options, size] of cases) {
    const net = new nn.DiT(options);
    const params = net.namedParameters();
    // The zero start of the gates would hide most of the network from the comparison of the gradients.
    const weights = new Map(
      [...params].map(([name, p]) => [name, /adaLN|final/.test(name) ? randn(p.shape).mul(0.02) : p]),
    );
    net.loadStateDict(new Map([...net.stateDict(), ...weights]));
    const image = [size, options.channels, options.imageSize, options.imageSize];
    const s = rand([size]).mul(0.5);
    const batch = {
      x: randn(image),
      noise: randn(image),
      labels: tensor(Int32Array.from({ length: size }, (_, i) => i % options.classes)),
      t: s.add(rand([size]).mul(0.4).add(0.1)),
      s,
      sPrime: rand([size]),
      beta: tensor(new Float32Array(size).fill(0.5)),
    };
    const moments = immBatch(batch.x, batch.noise, options.classes);
    const inputsWith = (given: Record<string, Tensor>) =>
      new Map<string, Tensor>([
        ...net.stateDict(),
        ...Object.entries(given).map(([name, x]) => [`batch.${name}`, x] as const),
      ]);
    const teacher = new Ema(net.namedParameters(), 0.99);
    const [optimizer, ema] = [
      new AdamW(net.namedParameters(), { lr: idleRate, betas: [0.9, 0.95] }),
      new Ema(params, 0.999),
    ];
    const objectives = {
      fm: {
        name: 'flow matching step',
        loss: () => flowMatchingLoss(net, batch).loss,
        given: batch,
        averages: [ema, teacher],
      },
      tvm: {
        name: 'Terminal Velocity Matching step',
        loss: () => tvmLoss(net, teacher.tensors, batch).loss,
        given: batch,
        averages: [ema, teacher],
      },
      imm: {
        name: 'Inductive Moment Matching step',
        loss: () => immLoss(net, moments, { mapping, particles, timeScale: 1, inputScaling: false }).loss,
        given: moments,
        averages: [ema],
      },
    };
    const subjects: Subject[] = [];
    const steps: CapturedStep<readonly Tensor[], void>[] = [];
    for (const [objective, { name, loss, given, averages }] of Object.entries(objectives)) {
      const compute = () =>
        valueAndGrad((p: Map<string, Tensor>) => functionalCall(net, p, loss))(net.namedParameters());
      const step = () => {
        optimizer.update(compute()[1]);
        for (const average of averages) average.update();
      };
      const [value, gradients] = compute();
      const ours = new Map<string, Tensor>([['loss', value], ...(gradients as Map<string, Tensor>)]);
      const settings = { network: options, objective, lr: idleRate, particles, mapping: mapping.options };
      const rows = [...inPyTorch('step', settings), inJax('step', settings)];
      const recorded = captureGraph(step, { device: 'cpu' });
      steps.push(recorded);
      subjects.push({ name: `${name}, not recorded`, run: step }, { name, run: () => recorded() });
      subjects.push(...(await peers.python({ peerOf: name }, rows, inputsWith(given), ours)));
    }
    const done = () => {
      for (const recorded of steps) recorded.dispose();
      return peers.clear();
    };
    yield { title, subjects, done };
  }
}
