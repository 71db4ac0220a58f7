// The network of Inductive Moment Matching: the published keys and shapes, its value against loops over plain arrays, its
// derivatives, and how it treats its second time.
import {
  dispose,
  functionalCall,
  Generator,
  grad,
  gradcheck,
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

const options: nn.ImmDiTOptions = {
  imageSize: 6,
  patchSize: 2,
  channels: 2,
  width: 24,
  depth: 2,
  heads: 2,
  classes: 4,
  timeFrequencies: 8,
};

/** Zero starts hide everything behind them: random values everywhere, the same for every dtype. */
function shaken(change: Partial<nn.ImmDiTOptions> = {}, dtype: 'float32' | 'float64' = 'float64'): nn.ImmDiT {
  const net = new nn.ImmDiT({ ...options, ...change }).to({ dtype });
  const generator = new Generator(5);
  const values = new Map(
    [...net.namedParameters()].map(([name, p]) => [name, randn(p.shape, { generator, dtype: 'float64' }).mul(0.25)]),
  );
  net.loadStateDict(values, { strict: false });
  dispose([...values.values()]);
  return net;
}

function inputs(dtype: 'float32' | 'float64' = 'float64') {
  const { shape, values } = sample([3, 2, 6, 6], 1);
  return {
    x: tensor(Float64Array.from(values), { shape, dtype }),
    t: tensor([994, 700, 12], { dtype }),
    s: tensor([200, 700, 0], { dtype }),
    labels: tensor(Int32Array.from([0, 3, -1])),
  };
}

/** The published layout, written out: name, and shape at a width, of what does not repeat and of one block. */
const published = (c: number, p: number, width: number, tokens: number, classes: number, frequencies: number) => ({
  outside: {
    's_embedder.mlp.0.weight': [width, frequencies],
    's_embedder.mlp.0.bias': [width],
    's_embedder.mlp.2.weight': [width, width],
    's_embedder.mlp.2.bias': [width],
    'x_embedder.proj.weight': [width, c, p, p],
    'x_embedder.proj.bias': [width],
    't_embedder.mlp.0.weight': [width, frequencies],
    't_embedder.mlp.0.bias': [width],
    't_embedder.mlp.2.weight': [width, width],
    't_embedder.mlp.2.bias': [width],
    'y_embedder.embedding_table.weight': [classes + 1, width],
    pos_embed: [1, tokens, width],
    'final_layer.linear.weight': [p * p * c, width],
    'final_layer.linear.bias': [p * p * c],
    'final_layer.adaLN_modulation.1.weight': [2 * width, width],
    'final_layer.adaLN_modulation.1.bias': [2 * width],
  },
  block: {
    'attn.qkv.weight': [3 * width, width],
    'attn.qkv.bias': [3 * width],
    'attn.proj.weight': [width, width],
    'attn.proj.bias': [width],
    'mlp.fc1.weight': [4 * width, width],
    'mlp.fc1.bias': [4 * width],
    'mlp.fc2.weight': [width, 4 * width],
    'mlp.fc2.bias': [width],
    'adaLN_modulation.1.weight': [6 * width, width],
    'adaLN_modulation.1.bias': [6 * width],
  },
});

function expectedShapes(layout: ReturnType<typeof published>, depth: number): [string, readonly number[]][] {
  const blocks = Array.from({ length: depth }, (_, i) =>
    Object.entries(layout.block).map(([key, shape]): [string, number[]] => [`blocks.${i}.${key}`, shape]),
  );
  return [...Object.entries(layout.outside), ...blocks.flat()].sort();
}

/** The network over plain arrays, one image, loop by loop. */
function byHand(state: Map<string, Tensor>, x: Float64Array, t: number, s: number, label: number): Float64Array {
  const { imageSize, patchSize: p, channels, width, depth, heads, classes, timeFrequencies } = options;
  const side = imageSize / p;
  const tokens = side * side;
  const values = new Map([...state].map(([name, v]) => [name, v.dataSync()]));
  const linear = (name: string, rows: number[][]) => {
    const [weight, bias] = [values.get(`${name}.weight`)!, values.get(`${name}.bias`)!];
    return rows.map((row) =>
      Array.from(bias, (b, o) => row.reduce((sum, v, i) => sum + v * weight[o * row.length + i]!, b)),
    );
  };
  const silu = (v: number) => v / (1 + Math.exp(-v));
  const gelu = (v: number) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
  const embed = (name: string, time: number) => {
    const half = timeFrequencies! / 2;
    const phases = Array.from({ length: half }, (_, i) => time * Math.exp((-Math.log(10000) * i) / half));
    const waves = [...phases.map(Math.cos), ...phases.map(Math.sin)];
    return linear(`${name}.mlp.2`, [linear(`${name}.mlp.0`, [waves])[0]!.map(silu)])[0]!;
  };
  const table = values.get('y_embedder.embedding_table.weight')!;
  const [ofT, ofS] = [embed('t_embedder', t), embed('s_embedder', s)];
  const condition = ofT.map((v, i) => silu(v + ofS[i]! + table[(label < 0 ? classes : label) * width + i]!));
  const normed = (row: number[], shift: number[], scale: number[]) => {
    const mean = row.reduce((a, b) => a + b, 0) / width;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / width;
    return row.map((v, i) => ((v - mean) / Math.sqrt(variance + 1e-6)) * (1 + scale[i]!) + shift[i]!);
  };
  const modulation = (name: string) => {
    const all = linear(`${name}.adaLN_modulation.1`, [condition])[0]!;
    return Array.from({ length: all.length / width }, (_, i) => all.slice(i * width, (i + 1) * width));
  };
  const pixel = (c: number, row: number, column: number) => x[(c * imageSize + row) * imageSize + column]!;

  // A convolution whose stride is its size.
  const kernel = values.get('x_embedder.proj.weight')!;
  const [bias, places] = [values.get('x_embedder.proj.bias')!, values.get('pos_embed')!];
  let hidden = Array.from({ length: tokens }, (_, token) =>
    Array.from({ length: width }, (_, o) => {
      let sum = bias[o]! + places[token * width + o]!;
      for (let c = 0; c < channels; c++)
        for (let i = 0; i < p; i++)
          for (let j = 0; j < p; j++)
            sum +=
              kernel[((o * channels + c) * p + i) * p + j]! *
              pixel(c, Math.floor(token / side) * p + i, (token % side) * p + j);
      return sum;
    }),
  );
  const dim = width / heads;
  for (let b = 0; b < depth; b++) {
    const [shift1, scale1, gate1, shift2, scale2, gate2] = modulation(`blocks.${b}`) as number[][];
    const qkv = linear(
      `blocks.${b}.attn.qkv`,
      hidden.map((row) => normed(row, shift1!, scale1!)),
    );
    const mixed = hidden.map(() => new Array<number>(width).fill(0));
    for (let head = 0; head < heads; head++) {
      const part = (row: number[], which: number) =>
        row.slice(which * width + head * dim, which * width + (head + 1) * dim);
      for (const [i, row] of qkv.entries()) {
        const scores = qkv.map((other) =>
          Math.exp(part(row, 0).reduce((sum, v, d) => sum + v * part(other, 1)[d]!, 0) / Math.sqrt(dim)),
        );
        const total = scores.reduce((a, b2) => a + b2, 0);
        for (const [j, other] of qkv.entries())
          for (const [d, v] of part(other, 2).entries()) mixed[i]![head * dim + d]! += (scores[j]! / total) * v;
      }
    }
    const attended = linear(`blocks.${b}.attn.proj`, mixed);
    hidden = hidden.map((row, i) => row.map((v, d) => v + gate1![d]! * attended[i]![d]!));
    const inner = linear(
      `blocks.${b}.mlp.fc1`,
      hidden.map((row) => normed(row, shift2!, scale2!)),
    );
    const out = linear(
      `blocks.${b}.mlp.fc2`,
      inner.map((row) => row.map(gelu)),
    );
    hidden = hidden.map((row, i) => row.map((v, d) => v + gate2![d]! * out[i]![d]!));
  }
  const [shift, scale] = modulation('final_layer') as [number[], number[]];
  const patches = linear(
    'final_layer.linear',
    hidden.map((row) => normed(row, shift, scale)),
  );
  const image = new Float64Array(channels * imageSize * imageSize);
  for (let c = 0; c < channels; c++)
    for (let row = 0; row < imageSize; row++)
      for (let column = 0; column < imageSize; column++) {
        const token = Math.floor(row / p) * side + Math.floor(column / p);
        image[(c * imageSize + row) * imageSize + column] =
          patches[token]![((row % p) * p + (column % p)) * channels + c]!;
      }
  return image;
}

describe('ImmDiT', () => {
  it('has the published state-dict keys and shapes, in fact and on paper', () => {
    const net = new nn.ImmDiT(options);
    const expected = expectedShapes(published(2, 2, 24, 9, 4, 8), 2);
    expect([...net.stateDict()].map(([name, { shape }]) => [name, [...shape]]).sort()).toEqual(expected);
    expect([...nn.immDitShapes(options)].sort()).toEqual(expected);
    expect([...nn.immDitShapes(options).keys()]).toEqual([...net.stateDict().keys()]);
  });

  it('has the published XL/2: 28 blocks of width 1152, 16 heads of 72, 676,735,504 numbers', () => {
    const preset = nn.immDitPresets['XL/2'];
    expect(preset).toEqual({ patchSize: 2, width: 1152, depth: 28, heads: 16 });
    expect(preset.width / preset.heads).toBe(72);
    const before = memory().bytes;
    const shapes = nn.immDitShapes({ imageSize: 32, channels: 4, classes: 1000, ...preset });
    expect(memory().bytes).toBe(before);
    expect([...shapes].sort()).toEqual(expectedShapes(published(4, 2, 1152, 256, 1000, 256), 28));
    expect([...shapes.values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0)).toBe(676_735_504);
    expect(Object.keys(nn.immDitPresets)).toHaveLength(12);
  });

  it.each([0, 1, 2])('computes what loops over plain arrays compute, image %i', (i) => {
    const net = shaken();
    const { x, t, s, labels } = inputs();
    const size = x.size / 3;
    const got = net
      .forward(x, t, s, { labels })
      .dataSync()
      .slice(i * size, (i + 1) * size);
    const at = (v: Tensor) => v.dataSync()[i] as number;
    const image = Float64Array.from(x.dataSync().slice(i * size, (i + 1) * size));
    expect(relativeError(got, byHand(net.stateDict(), image, at(t), at(s), at(labels)))).toBeLessThan(1e-12);
  });

  it('starts as zero, and takes no labels for the class of none', () => {
    const { x, t, s } = inputs('float32');
    expect(
      new nn.ImmDiT(options)
        .forward(x, t, s)
        .dataSync()
        .every((v) => v === 0),
    ).toBe(true);
    const net = shaken({}, 'float32');
    const none = tensor(Int32Array.from([-1, -1, -1]));
    expect([...net.forward(x, t, s).dataSync()]).toEqual([...net.forward(x, t, s, { labels: none }).dataSync()]);
  });

  it('embeds its second time as given', () => {
    const net = shaken();
    expect(net.secondTime).toBe('raw');
    const { x, t, s } = inputs();
    // Exchanging the embedders' weights exchanges the times.
    const swapped = new Map(
      [...net.stateDict()].map(([name, v]) => [name.replace(/^([ts])_/, (_, a) => (a === 't' ? 's_' : 't_')), v]),
    );
    const other = new nn.ImmDiT(options).to({ dtype: 'float64' });
    other.loadStateDict(swapped);
    expect(relativeError(other.forward(x, s, t).dataSync(), net.forward(x, t, s).dataSync())).toBeLessThan(1e-13);
  });

  it('does not see beta', () => {
    const net = shaken();
    const { x, t, s } = inputs();
    const beta = tensor([0.5, 0.1, 1], { dtype: 'float64' });
    expect([...net.forward(x, t, s, { beta }).dataSync()]).toEqual([...net.forward(x, t, s).dataSync()]);
  });

  it('has the derivatives of what it computes, by input and times', () => {
    const net = shaken({ depth: 1 });
    checkOp(
      (x, t, s) => net.forward(x!, t!, s!, { labels: tensor(Int32Array.from([1, -1])) }),
      [sample([2, 2, 6, 6], 1), { shape: [2], values: [0.9, 0.5] }, { shape: [2], values: [0.3, 0.1] }],
      { dtypes: ['float64'] },
    );
  });

  it('has the gradients by its parameters, of its value and of ∂/∂s', () => {
    const net = shaken({ imageSize: 2, width: 8, depth: 1, timeFrequencies: 4, channels: 1, mlpRatio: 1 });
    const x = tensor(Float64Array.from(sample([1, 1, 2, 2], 2).values), { shape: [1, 1, 2, 2] });
    const [t, s] = [tensor([0.8], { dtype: 'float64' }), tensor([0.3], { dtype: 'float64' })];
    const named = [...net.namedParameters()];
    gradcheck(
      (...values: Tensor[]) =>
        functionalCall(net, new Map(named.map(([name], i) => [name, values[i]!])), () =>
          jvp(
            (at: Tensor) => net.forward(x, t, at, { labels: tensor(Int32Array.from([2])) }),
            [s],
            [ones([1], { dtype: 'float64' })],
          ),
        ),
      named.map(([, p]) => p),
    );
  });

  it('agrees between float32 and float64, value and ∂/∂s', () => {
    const run = (dtype: 'float32' | 'float64') => {
      const { x, s, t, labels } = inputs(dtype);
      const scaled = (v: Tensor) => v.div(1000);
      return jvp(
        (at: Tensor) => shaken({}, dtype).forward(x, scaled(t), at, { labels }),
        [scaled(s)],
        [ones([3], { dtype })],
      ).map((y) => y.dataSync());
    };
    const [wide, narrow] = [run('float64'), run('float32')];
    expect(relativeError(narrow[0]!, wide[0]!)).toBeLessThan(5e-6);
    expect(relativeError(narrow[1]!, wide[1]!)).toBeLessThan(2e-5);
  });

  it('gives the same gradients when blocks are recomputed', () => {
    const gradients = [false, true].map((recompute) => {
      const net = shaken({ checkpoint: recompute });
      const { x, t, s, labels } = inputs();
      const loss = (params: Map<string, Tensor>) =>
        functionalCall(net, params, () => net.forward(x, t, s, { labels }))
          .square()
          .sum();
      return grad(loss)(net.namedParameters()) as Map<string, Tensor>;
    });
    for (const [name, g] of gradients[0]!)
      expect(relativeError(gradients[1]!.get(name)!.dataSync(), g.dataSync())).toBeLessThan(1e-10);
  });

  it.each([
    ['an image of another size', { x: ones([1, 2, 5, 6]) }, /ImmDiT: x must have shape \[B, 2, 6, 6\]/],
    ['a second time of another batch', { s: ones([2]) }, /ImmDiT: s must have shape \[1\], got \[2\]/],
  ])('refuses %s', (_, wrong: { x?: Tensor; s?: Tensor }, message) => {
    const { x = ones([1, 2, 6, 6]), s = ones([1]) } = wrong;
    expect(() => new nn.ImmDiT(options).forward(x, ones([1]), s)).toThrow(message);
  });

  it('refuses labels where it has no classes, and sizes that do not divide', () => {
    const call = () =>
      new nn.ImmDiT({ ...options, classes: 0 }).forward(ones([1, 2, 6, 6]), ones([1]), ones([1]), {
        labels: tensor(Int32Array.from([0])),
      });
    expect(call).toThrow(/ImmDiT: labels must be absent/);
    expect(() => nn.immDitShapes({ ...options, heads: 5 })).toThrow(/ImmDiT: width must be a multiple of heads/);
  });

  it('gives all its memory back', () => {
    const before = memory().tensors;
    tidy(() => new nn.ImmDiT(options).dispose());
    expect(memory().tensors).toBe(before);
  });
});

describe('ditShapes', () => {
  it.each([{}, { guidance: true, modNorm: true }, { qkNorm: false, classes: 0, mlpRatio: 2.5 }])(
    'is what the network has, with %j',
    (change) => {
      const made = { ...options, ...change };
      const state = [...new nn.DiT(made).stateDict()].map(([name, { shape }]) => [name, [...shape]]);
      expect([...nn.ditShapes(made)]).toEqual(state);
    },
  );
});
