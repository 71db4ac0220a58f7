// The network: keys, shapes, strict loading, float32 against float64, its derivative by s, starts, checkpointing.
import {
  AutogradError,
  checkpoint,
  dispose,
  functionalCall,
  Generator,
  grad,
  jvp,
  memory,
  nn,
  ones,
  randn,
  type Tensor,
  tensor,
  tidy,
} from '../../lib';
import { checkOp, relativeError, sample } from '../support/checkOp';

const options: nn.DiTOptions = { imageSize: 6, patchSize: 2, channels: 2, width: 24, depth: 2, heads: 3, classes: 4 };

/** Zero starts hide everything behind them: random values everywhere, the same for every dtype. */
function shake(net: nn.DiT, seed = 5): void {
  const generator = new Generator(seed);
  const values = new Map(
    [...net.namedParameters()].map(([name, p]) => [name, randn(p.shape, { generator, dtype: 'float64' }).mul(0.25)]),
  );
  net.loadStateDict(values, { strict: false });
  dispose([...values.values()]);
}

function inputs(dtype: 'float32' | 'float64') {
  const at = (shape: number[], seed: number) =>
    tensor(Float64Array.from(Array.from(sample(shape, seed).values)), { shape, dtype });
  return {
    x: at([3, 2, 6, 6], 1),
    t: tensor([1, 0.7, 0.4], { dtype }),
    s: tensor([0.2, 0.7, 0], { dtype }),
    labels: tensor(Int32Array.from([0, 3, -1])),
    beta: tensor([0.5, 1, 0.25], { dtype }),
  };
}

describe('DiT', () => {
  it('has the published state-dict keys', () => {
    const keys = [...new nn.DiT({ ...options, depth: 1, guidance: true }).stateDict().keys()];
    const pair = (name: string) => [`${name}.weight`, `${name}.bias`];
    expect(keys.sort()).toEqual(
      [
        ...pair('x_embedder.proj'),
        ...['t', 's', 'guidance'].flatMap((k) => [...pair(`${k}_embedder.mlp.0`), ...pair(`${k}_embedder.mlp.2`)]),
        'y_embedder.embedding_table.weight',
        'pos_embed',
        ...pair('blocks.0.attn.qkv'),
        'blocks.0.attn.q_norm.weight',
        'blocks.0.attn.k_norm.weight',
        ...pair('blocks.0.attn.proj'),
        ...pair('blocks.0.mlp.fc1'),
        ...pair('blocks.0.mlp.fc2'),
        ...pair('blocks.0.adaLN_modulation.1'),
        ...pair('final_layer.linear'),
        ...pair('final_layer.adaLN_modulation.1'),
      ].sort(),
    );
  });

  it('starts as zero', () => {
    const { x, t, s, labels } = inputs('float32');
    expect(
      new nn.DiT(options)
        .forward(x, t, s, { labels })
        .dataSync()
        .every((v) => v === 0),
    ).toBe(true);
  });

  it.each([{ modNorm: false }, { modNorm: true }, { qkNorm: false }, { guidance: true }, { classes: 0 }])(
    'agrees between float32 and float64, value and ∂/∂s, with %j',
    (change) => {
      const run = (dtype: 'float32' | 'float64') => {
        const net = new nn.DiT({ ...options, ...change }).to({ dtype });
        shake(net);
        const { x, t, s, labels, beta } = inputs(dtype);
        const condition = { labels: change.classes === 0 ? null : labels, beta: change.guidance ? beta : null };
        return jvp((at: Tensor) => net.forward(x, t, at, condition), [s], [ones([3], { dtype })]).map((y) =>
          y.dataSync(),
        );
      };
      const [wide, narrow] = [run('float64'), run('float32')];
      expect(relativeError(narrow[0]!, wide[0]!)).toBeLessThan(5e-6);
      expect(relativeError(narrow[1]!, wide[1]!)).toBeLessThan(2e-5);
    },
  );

  it('has the derivatives of what it computes, by input and times', () => {
    const net = new nn.DiT({ ...options, depth: 1 }).to({ dtype: 'float64' });
    shake(net);
    checkOp(
      (x, t, s) => net.forward(x!, t!, s!, { labels: tensor(Int32Array.from([1, -1])) }),
      [sample([2, 2, 6, 6], 1), { shape: [2], values: [0.9, 0.5] }, { shape: [2], values: [0.3, 0.1] }],
      {
        dtypes: ['float64'],
      },
    );
  });

  it('gives the same gradients when blocks are recomputed', () => {
    const gradients = [false, true].map((recompute) => {
      const net = new nn.DiT({ ...options, checkpoint: recompute }).to({ dtype: 'float64' });
      shake(net);
      const { x, t, s, labels } = inputs('float64');
      const loss = (params: Map<string, Tensor>) =>
        functionalCall(net, params, () =>
          jvp((at: Tensor) => net.forward(x, t, at, { labels }), [s], [ones([3], { dtype: 'float64' })]),
        )[1]
          .square()
          .sum();
      return grad(loss)(net.namedParameters()) as Map<string, Tensor>;
    });
    for (const [name, g] of gradients[0]!)
      expect(relativeError(gradients[1]!.get(name)!.dataSync(), g.dataSync())).toBeLessThan(1e-10);
  });

  it('refuses a checkpoint that would lose the gradient of parameters it closes over', () => {
    const layer = new nn.Linear(2, 2);
    const loss = (params: Map<string, Tensor>) =>
      functionalCall(layer, params, () => checkpoint((x: Tensor) => layer.forward(x))(ones([1, 2])).sum());
    expect(() => grad(loss)(layer.namedParameters())).toThrow(AutogradError);
  });

  it('loads strictly: all that is missing or left over is named, and nothing is changed', () => {
    const net = new nn.DiT(options);
    const state = new Map(net.stateDict());
    state.delete('pos_embed');
    state.set('extra', ones([1]));
    expect(() => net.loadStateDict(state)).toThrow(/missing: pos_embed; unexpected: extra/);
    expect(net.loadStateDict(state, { strict: false })).toEqual({ missing: ['pos_embed'], unexpected: ['extra'] });
    expect(() => net.loadStateDict(new Map([...net.stateDict(), ['pos_embed', ones([2])]]))).toThrow(
      /'pos_embed' must have shape/,
    );
  });

  it('runs in bfloat16 on float32 images', () => {
    const { x, t, s, labels } = inputs('float32');
    const net = new nn.DiT(options);
    shake(net);
    const wide = net.forward(x, t, s, { labels });
    const narrow = net.to({ dtype: 'bfloat16' }).forward(x, t, s, { labels });
    expect(narrow.dtype).toBe('float32');
    expect(relativeError(narrow.dataSync(), wide.dataSync())).toBeLessThan(0.05);
  });

  it.each([
    [
      'an image of another size',
      () => new nn.DiT(options).forward(ones([1, 2, 5, 6]), ones([1]), ones([1])),
      /DiT: x must have shape \[B, 2, 6, 6\]/,
    ],
    [
      'times of another batch',
      () => new nn.DiT(options).forward(ones([1, 2, 6, 6]), ones([2]), ones([1])),
      /DiT: t must have shape \[1\]/,
    ],
    [
      'a patch that does not divide',
      () => new nn.DiT({ ...options, patchSize: 4 }),
      /patchSize must divide imageSize 6, got 4/,
    ],
    ['heads that do not divide', () => new nn.DiT({ ...options, heads: 5 }), /width must be a multiple of heads/],
    ['no depth', () => new nn.DiT({ ...options, depth: 0 }), /depth must be a positive integer, got 0/],
    [
      'a parameter it does not have',
      () => functionalCall(new nn.DiT(options), new Map([['w', ones([1])]]), () => 0),
      /no tensor 'w'/,
    ],
  ])('refuses %s', (_, call, message) => {
    expect(call).toThrow(message);
  });

  it('gives all its memory back', () => {
    const before = memory().tensors;
    tidy(() => {
      const net = new nn.DiT(options);
      net.dispose();
    });
    expect(memory().tensors).toBe(before);
  });
});

describe('starts', () => {
  it('divides by the spectral norm', () => {
    expect(nn.spectralNorm(nn.spectralNormal(40, 24), 200)).toBeCloseTo(1, 4);
  });

  it('draws Xavier-uniform within its bound', () => {
    const bound = Math.sqrt(6 / 50);
    const values = nn.xavierUniform(30, 20).dataSync();
    expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(bound);
    expect(Math.max(...values.map(Math.abs))).toBeGreaterThan(0.9 * bound);
  });
});
