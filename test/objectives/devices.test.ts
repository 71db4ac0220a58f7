// Losses, their gradients and the samplers where the data are: every device gives what the CPU gives, and nothing is read
// on the way. The network has no products, so that only the objectives' own operations are asked for.
import {
  dispose,
  driftingLoss,
  flowMatchingLoss,
  functionalCall,
  Generator,
  immCases,
  immLoss,
  immMapping,
  immPresets,
  meanFlowLoss,
  memory,
  nn,
  sampleEuler,
  sampleFlowMap,
  samplePushforward,
  sampleRestart,
  Tensor,
  tensor,
  tidy,
  tvmLoss,
  valueAndGrad,
} from '../../lib';
import { relativeError, sample } from '../support/checkOp';
import { describeOnDevices } from '../support/devices';

const shape = [6, 1, 3, 3];

/** sin(x ∘ w + a t − b s + the class's row), element by element. */
class Wave extends nn.Module {
  private readonly table: nn.Embedding;

  constructor() {
    super();
    const values = (n: number, seed: number) => Float32Array.from(sample([n], seed).values);
    this.parameter('w', tensor(values(9, 1), { shape: shape.slice(1) }));
    this.parameter('a', tensor([0.7]));
    this.parameter('b', tensor([0.4]));
    this.table = this.child('table', new nn.Embedding(4, 9, { generator: new Generator(2) }));
  }

  forward(x: Tensor, t: Tensor, s: Tensor, { labels }: nn.DiTCondition = {}): Tensor {
    const column = (time: Tensor) => time.to({ dtype: x.dtype }).reshape([-1, 1, 1, 1]);
    const phase = column(t)
      .mul(this.get('a'))
      .sub(column(s).mul(this.get('b')));
    const waves = x.mul(this.get('w')).add(phase);
    if (!labels) return waves.sin();
    const rows = this.table.forward(labels.less(0).where(3, labels));
    return waves.add(rows.reshape([-1, ...shape.slice(1)])).sin();
  }
}

const mapping = immMapping(immPresets.digits);
type Common = { generator: Generator; labelDropout: number };
type Batch = { x: Tensor; labels: Tensor };
const losses: Record<string, (net: Wave, batch: Batch, common: Common) => Tensor> = {
  'flow matching': (net, batch, common) => flowMatchingLoss(net, batch, common).loss,
  'Terminal Velocity Matching': (net, batch, common) => tvmLoss(net, net.stateDict(), batch, common).loss,
  'guided Terminal Velocity Matching': (net, batch, common) =>
    tvmLoss(net, net.stateDict(), batch, { ...common, guidance: { cfg: 2 }, detachJvp: true }).loss,
  MeanFlow: (net, batch, common) => meanFlowLoss(net, batch, { ...common, cfg: 1.5 }).loss,
  drifting: (net, batch, common) => driftingLoss(net, batch, { ...common, particles: 3 }).loss,
  'consistency training': (net, batch, common) =>
    immLoss(net, batch, { ...common, mapping, ...immCases.ct(mapping) }).loss,
};
const samplers: Record<string, (net: Wave, noise: Tensor, labels: Tensor) => Tensor> = {
  jumps: (net, noise, labels) => sampleFlowMap(net, noise, { steps: 3, labels }),
  'guided Euler steps': (net, noise, labels) => sampleEuler(net, noise, { steps: 3, labels, cfg: 2 }).samples,
  'guided pushforward': (net, noise, labels) =>
    samplePushforward(net, noise, { mapping, steps: 2, labels, guidance: 2 }).samples,
  restarts: (net, noise, labels) =>
    sampleRestart(net, noise, { mapping, steps: 3, labels, generator: new Generator(4) }).samples,
};

function batchOn(device: string): Batch {
  return {
    x: tensor(Float32Array.from(sample(shape, 5).values), { shape, device }),
    labels: tensor(Int32Array.of(0, 0, 0, 2, 2, 2), { device }),
  };
}

/** What `run` returns, read when it is done; reading within it fails. */
function readAfter(run: () => Iterable<Tensor>): ArrayLike<number>[] {
  const reads = ['data', 'dataSync'] as const;
  const spies = reads.map((name) =>
    jest.spyOn(Tensor.prototype, name).mockImplementation(() => {
      throw new Error(`${name} in the middle of a step`);
    }),
  );
  let results: Tensor[];
  try {
    results = [...run()];
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  const values = results.map((x) => x.dataSync());
  dispose(results);
  return values;
}

describeOnDevices('where the data are', (device) => {
  const nets = new Map<string, Wave>();
  beforeAll(() => {
    for (const place of new Set(['cpu', device])) nets.set(place, new Wave().to({ device: place }));
  });
  afterAll(() => {
    for (const net of nets.values()) net.dispose();
  });

  it.each(Object.keys(losses))('%s has its value and its gradients, and leaves nothing behind', (name) => {
    const run = (place: string) => {
      const [net, batch] = [nets.get(place)!, batchOn(place)];
      const before = memory(place).tensors;
      const common = { generator: new Generator(3), labelDropout: 0.3 };
      const values = readAfter(() => {
        const [loss, gradients] = valueAndGrad((parameters: Map<string, Tensor>) =>
          functionalCall(net, parameters, () => losses[name]!(net, batch, common)),
        )(net.namedParameters());
        return [loss, ...(gradients as Map<string, Tensor>).values()];
      });
      expect(memory(place).tensors).toBe(before);
      dispose(batch);
      return values;
    };
    const expected = run('cpu');
    for (const [i, values] of run(device).entries()) expect(relativeError(values, expected[i]!)).toBeLessThan(2e-5);
  });

  it.each(Object.keys(samplers))('%s land in the same place', (name) => {
    const run = (place: string) => {
      const batch = batchOn(place);
      const values = readAfter(() => [tidy(() => samplers[name]!(nets.get(place)!, batch.x, batch.labels))]);
      dispose(batch);
      return values[0]!;
    };
    expect(relativeError(run(device), run('cpu'))).toBeLessThan(1e-5);
  });
});
