// Attention, its tangent and the backward of both, on every device, against float64 loops over whole matrices: odd sizes,
// adversarial data, masks, grouped heads, both layouts; structure that must hold exactly; derivatives to third order.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { type AttentionOptions, Tensor } from '../../lib';
import { native } from '../../lib/native';
import { relativeError, type Sample, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { settingsOf } from '../support/fusedAttention';
import { type FloatingDType, tolerances } from '../support/tolerances';

interface Sizes {
  batch: number;
  heads: number;
  keyHeads?: number;
  queries: number;
  keys: number;
  dim: number;
}
interface Shapes {
  q: number[];
  k: number[];
}

function shapesOf({ batch, heads, keyHeads = heads, queries, keys, dim }: Sizes, layout = 'BHSD'): Shapes {
  return layout === 'BHSD'
    ? { q: [batch, heads, queries, dim], k: [batch, keyHeads, keys, dim] }
    : { q: [batch, queries, heads, dim], k: [batch, keys, keyHeads, dim] };
}

interface Oracle {
  o: Float64Array;
  to: Float64Array;
  grads: Float64Array[]; // gq, gk, gv, gtq, gtk, gtv
}

// The definition, in float64, one row at a time. values: q, k, v, tq, tk, tv, g, h.
function oracle(values: ArrayLike<number>[], sizes: Sizes, options: AttentionOptions, lengths?: number[]): Oracle {
  const { batch, heads, keyHeads = heads, queries, keys, dim } = sizes;
  const inner = options.layout === 'BSHD';
  const scale = options.scale ?? 1 / Math.sqrt(dim);
  const at = (b: number, h: number, i: number, total: number, rows: number) =>
    (inner ? (b * rows + i) * total + h : (b * total + h) * rows + i) * dim;
  const [q, k, v, tq, tk, tv, g, h] = values as [
    never,
    never,
    never,
    never,
    never,
    never,
    never,
    never,
  ] as ArrayLike<number>[];
  const o = new Float64Array(q!.length);
  const to = new Float64Array(q!.length);
  const grads = [q, k, v, q, k, v].map((x) => new Float64Array(x!.length));
  const [gq, gk, gv, gtq, gtk, gtv] = grads as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const dot = (a: ArrayLike<number>, ai: number, b: ArrayLike<number>, bi: number) => {
    let sum = 0;
    for (let p = 0; p < dim; p++) sum += a[ai + p]! * b[bi + p]!;
    return sum;
  };
  const axpy = (c: Float64Array, ci: number, w: number, b: ArrayLike<number>, bi: number) => {
    for (let p = 0; p < dim; p++) c[ci + p]! += w * b[bi + p]!;
  };
  for (let b = 0; b < batch; b++) {
    for (let head = 0; head < heads; head++) {
      const kh = Math.floor(head / (heads / keyHeads));
      for (let i = 0; i < queries; i++) {
        const qi = at(b, head, i, heads, queries);
        const end = Math.max(0, Math.min(lengths ? lengths[b]! : keys, options.causal ? i + 1 + keys - queries : keys));
        const row = Array.from({ length: end }, (_, j) => at(b, kh, j, keyHeads, keys));
        const s = row.map((kj) => scale * dot(q!, qi, k!, kj));
        const t = row.map((kj) => scale * (dot(tq!, qi, k!, kj) + dot(q!, qi, tk!, kj)));
        const top = Math.max(...s);
        const e = s.map((x) => Math.exp(x - top));
        const total = e.reduce((x, y) => x + y, 0);
        const p = e.map((x) => x / total);
        const mu = p.reduce((sum, x, j) => sum + x * t[j]!, 0);
        const tp = p.map((x, j) => x * (t[j]! - mu));
        row.forEach((kj, j) => {
          axpy(o, qi, p[j]!, v!, kj);
          axpy(to, qi, tp[j]!, v!, kj);
          axpy(to, qi, p[j]!, tv!, kj);
        });
        const gtp = row.map((kj) => dot(h!, qi, v!, kj));
        const r = row.map((kj) => dot(g!, qi, v!, kj) + dot(h!, qi, tv!, kj));
        const a = p.reduce((sum, x, j) => sum + x * gtp[j]!, 0);
        const delta = p.reduce((sum, x, j) => sum + x * r[j]! + tp[j]! * gtp[j]!, 0);
        row.forEach((kj, j) => {
          const gt = p[j]! * (gtp[j]! - a) * scale;
          const gs = (p[j]! * (r[j]! - delta) + tp[j]! * (gtp[j]! - a)) * scale;
          axpy(gq, qi, gs, k!, kj);
          axpy(gq, qi, gt, tk!, kj);
          axpy(gk, kj, gs, q!, qi);
          axpy(gk, kj, gt, tq!, qi);
          axpy(gv, kj, p[j]!, g!, qi);
          axpy(gv, kj, tp[j]!, h!, qi);
          axpy(gtq, qi, gt, k!, kj);
          axpy(gtk, kj, gt, q!, qi);
          axpy(gtv, kj, p[j]!, h!, qi);
        });
      }
    }
  }
  return { o, to, grads };
}

type Adversary = 'plain' | 'sharp' | 'key offset' | 'one dominant key';

function operands(sizes: Sizes, layout: string, adversary: Adversary = 'plain'): Sample[] {
  const { q, k } = shapesOf(sizes, layout);
  const samples = [q, k, k, q, k, k, q, q].map((shape, i) => sample(shape, i + 1));
  const change = (i: number, f: (value: number, at: number) => number) => {
    samples[i]!.values = Float64Array.from(samples[i]!.values, f);
  };
  if (adversary === 'sharp') change(0, (x) => 8 * x);
  if (adversary === 'key offset') change(1, (x, at) => x + 8 * Math.sin(1 + (at % sizes.dim)));
  if (adversary === 'one dominant key') {
    change(0, (x) => 1 + 0.1 * x);
    change(1, (x, at) => (Math.floor(at / sizes.dim) % sizes.keys === 1 ? 0.8 : 0.1 * x));
  }
  return samples;
}

function check(
  device: string,
  sizes: Sizes,
  options: AttentionOptions,
  dtype: FloatingDType,
  settings: { adversary?: Adversary; slack?: number; lengths?: number[] } = {},
) {
  const { attention, dispose, jvp, tensor, vjp } = on(device);
  const { adversary = 'plain', slack = 1, lengths } = settings;
  const tensors = operands(sizes, options.layout ?? 'BHSD', adversary).map(({ shape, values }) =>
    tensor(Float64Array.from(Array.from(values)), { shape, dtype }),
  );
  const keyLengths = lengths ? tensor(Int32Array.from(lengths)) : null;
  const stored = tensors.map((x) => x.dataSync());
  const expected = oracle(stored, sizes, options, lengths);
  const [q, k, v, tq, tk, tv, g, h] = tensors as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  const both = (...[a, b, c, ta, tb, tc]: Tensor[]) =>
    jvp(
      (x: Tensor, y: Tensor, z: Tensor) => attention(x, y, z, { ...options, keyLengths }),
      [a!, b!, c!],
      [ta!, tb!, tc!],
    );
  const [[o, to], pullback] = vjp(both, [q, k, v, tq, tk, tv]);
  const found = pullback([g, h]) as Tensor[];
  pullback.dispose();
  // 16-bit outputs are rounded once more on their way into the backward pass.
  const allowed =
    { float64: 1e-10, float32: 2e-6, bfloat16: 3 * tolerances.bfloat16, float16: 3 * tolerances.float16 }[dtype] *
    slack;
  const report: Record<string, number> = {
    o: relativeError(o.dataSync(), expected.o),
    to: relativeError(to.dataSync(), expected.to),
  };
  for (const [i, name] of ['gq', 'gk', 'gv', 'gtq', 'gtk', 'gtv'].entries())
    report[name] = relativeError(found[i]!.dataSync(), expected.grads[i]!);
  for (const [name, error] of Object.entries(report)) {
    if (!(error <= allowed))
      throw new Error(`${name} in ${dtype}: relative error ${error}, allowed ${allowed} (${JSON.stringify(report)})`);
  }
  dispose([tensors, o, to, found]);
}

// The emulator takes seconds for what the others do at once: there, sizes just beyond one tile of 32 are enough.
const grids: Record<'full' | 'emulated', Sizes[]> = {
  full: [
    { batch: 1, heads: 1, queries: 1, keys: 1, dim: 1 },
    { batch: 2, heads: 3, queries: 5, keys: 7, dim: 3 },
    { batch: 2, heads: 2, queries: 16, keys: 16, dim: 24 },
    { batch: 1, heads: 2, queries: 49, keys: 49, dim: 32 },
    { batch: 1, heads: 2, queries: 65, keys: 129, dim: 64 },
    { batch: 1, heads: 1, queries: 200, keys: 63, dim: 72 },
    { batch: 1, heads: 2, queries: 97, keys: 191, dim: 100 },
    { batch: 1, heads: 1, queries: 33, keys: 130, dim: 128 },
    { batch: 1, heads: 1, queries: 17, keys: 70, dim: 256 },
  ],
  emulated: [
    { batch: 1, heads: 1, queries: 1, keys: 1, dim: 1 },
    { batch: 2, heads: 3, queries: 5, keys: 7, dim: 3 },
    { batch: 2, heads: 2, queries: 16, keys: 16, dim: 24 },
    { batch: 1, heads: 1, queries: 65, keys: 33, dim: 32 },
    { batch: 1, heads: 1, queries: 19, keys: 37, dim: 72 },
    { batch: 1, heads: 1, queries: 3, keys: 5, dim: 256 },
  ],
};

describeOnDevices('attention with its tangent and the backward of both', (device, label) => {
  const { attention, grad, jvp, ones, tensor, vjp, zeros } = on(device);
  const emulated = label === 'cuda-emulated';
  const grid = grids[emulated ? 'emulated' : 'full'];

  it.each(grid)('holds to float64 at $batch × $heads, $queries queries, $keys keys, $dim wide', (sizes) => {
    for (const dtype of ['float64', 'float32', 'bfloat16', 'float16'] as const) check(device, sizes, {}, dtype);
    check(device, sizes, { layout: 'BSHD' }, 'float32');
  });

  it.each([
    [
      'a causal mask',
      emulated
        ? { batch: 1, heads: 2, queries: 40, keys: 40, dim: 16 }
        : { batch: 2, heads: 2, queries: 70, keys: 70, dim: 16 },
      { causal: true },
    ],
    [
      'a causal mask over a longer past',
      emulated
        ? { batch: 1, heads: 1, queries: 20, keys: 70, dim: 16 }
        : { batch: 1, heads: 2, queries: 40, keys: 150, dim: 16 },
      { causal: true },
    ],
    [
      'a causal mask with more queries than keys',
      { batch: 1, heads: 1, queries: 90, keys: 30, dim: 8 },
      { causal: true },
    ],
    [
      'grouped query heads',
      emulated
        ? { batch: 1, heads: 6, keyHeads: 2, queries: 9, keys: 35, dim: 20 }
        : { batch: 2, heads: 6, keyHeads: 2, queries: 33, keys: 65, dim: 20 },
      {},
    ],
    [
      'one key head for all',
      { batch: 1, heads: 4, keyHeads: 1, queries: 20, keys: 20, dim: 8 },
      { layout: 'BSHD' as const, causal: true },
    ],
    ['a scale of its own', { batch: 1, heads: 1, queries: 9, keys: 9, dim: 4 }, { scale: -0.7 }],
    ['a scale of zero', { batch: 1, heads: 1, queries: 5, keys: 9, dim: 4 }, { scale: 0 }],
  ] as [string, Sizes, AttentionOptions][])('holds to float64 with %s', (_, sizes, options) => {
    for (const dtype of ['float64', 'float32', 'bfloat16'] as const) check(device, sizes, options, dtype);
  });

  it('holds to float64 with a number of keys for each batch row, none included', () => {
    const sizes = emulated
      ? { batch: 4, heads: 1, queries: 9, keys: 40, dim: 12 }
      : { batch: 4, heads: 2, queries: 21, keys: 80, dim: 12 };
    const { keys } = sizes;
    for (const dtype of ['float64', 'float32'] as const) {
      check(device, sizes, {}, dtype, { lengths: [keys, 1, 0, keys - 7] });
      check(device, sizes, { causal: true, layout: 'BSHD' }, dtype, { lengths: [keys, 3, 0, keys - 7] });
    }
  });

  it.each([
    ['a query', Number.NaN, 1, [[1]]],
    ['a query, infinite', Number.POSITIVE_INFINITY, 1, [[1]]],
    ['a key that is not the first', [1, 2], Number.NaN, [[0], [1]]],
    ['scores that overflow', 1e30, 1e30, [[0], [1]]],
  ] as [string, number | number[], number, number[][]][])('shows what is not finite: %s', (_, query, key, rows) => {
    const q = tensor([[1, 2], typeof query === 'number' ? [query, 0] : query].flat(), { shape: [1, 1, 2, 2] });
    const k = tensor([1, 0, key, 1], { shape: [1, 1, 2, 2] });
    const v = tensor([1, 2, 3, 4], { shape: [1, 1, 2, 2] });
    const f = (x: Tensor) => attention(x, k, v);
    const [o, to] = jvp(f, [q], [ones([1, 1, 2, 2])]);
    const g = grad((x: Tensor) => f(x).sum())(q) as Tensor;
    const affected = rows.map(([row]) => row!).filter((row) => !(query === 1e30 && row === 0));
    for (const row of affected) {
      for (const result of [o, to, g])
        expect([...result.dataSync().slice(2 * row, 2 * row + 2)].some(Number.isFinite)).toBe(false);
    }
  });

  it('does not see what lies beyond the keys that count, be it NaN', () => {
    const sizes = { batch: 1, heads: 1, queries: 70, keys: 70, dim: 8 };
    const [q, k, v, tq, tk, tv, g] = operands(sizes, 'BHSD').map(({ values }) =>
      Float64Array.from(Array.from(values)),
    ) as Float64Array[];
    const run = (fill: number) => {
      const [kk, vv, tkk, tvv] = [k!, v!, tk!, tv!].map((x) =>
        tensor(
          x.map((value, i) => (i >= 66 * 8 ? fill : value)),
          { shape: [1, 1, 70, 8] },
        ),
      ) as [Tensor, Tensor, Tensor, Tensor];
      const [qq, tqq, gg] = [q!, tq!, g!].map((x) => tensor(x, { shape: [1, 1, 70, 8] })) as [Tensor, Tensor, Tensor];
      const keyLengths = tensor(Int32Array.from([66]));
      const [out, pullback] = vjp(
        (...x: Tensor[]) =>
          jvp(
            (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, { keyLengths }),
            [x[0]!, x[1]!, x[2]!],
            [x[3], x[4], x[5]],
          ),
        [qq, kk, vv, tqq, tkk, tvv],
      );
      return [...out, ...(pullback([gg, gg]) as Tensor[])].map((x) => [...x.dataSync()]);
    };
    expect(run(Number.NaN)).toEqual(run(0));
  });

  it.each([
    ['sharp', 10],
    ['key offset', 1],
    ['one dominant key', emulated ? 2 : 1], // fewer queries, whose sum in gtk cancels
  ] as [Adversary, number][])('holds to float64 on adversarial data: %s', (adversary, slack) => {
    const sizes = emulated
      ? { batch: 1, heads: 1, queries: 40, keys: 50, dim: 64 }
      : { batch: 1, heads: 2, queries: 130, keys: 150, dim: 64 };
    check(device, sizes, {}, 'float32', { adversary, slack });
    check(device, sizes, {}, 'float64', { adversary, slack });
  });

  it('gives zeros, and zero gradients, where there is no key at all', () => {
    const [q, k] = [tensor([[[[1, 2]]]]), zeros([1, 1, 0, 2])];
    expect([...attention(q, k, k).dataSync()]).toEqual([0, 0]);
    expect([...grad((x: Tensor) => attention(x, k, k).sum())(q).dataSync()]).toEqual([0, 0]);
    expect(attention(zeros([1, 1, 0, 2]), q, q).shape).toEqual([1, 1, 0, 2]);
  });
});

// A child's program: the number of threads, and a hash of each result of attention in several settings.
const hashing = `
  const { createHash } = require('node:crypto');
  const { Generator, attention, jvp, randn, tensor, threads, vjp } = require(${JSON.stringify(join(__dirname, '..', '..', 'dist'))});
  console.log('threads', threads());
  const lengths = tensor(Int32Array.of(300, 77));
  for (const dtype of ['float32', 'float64', 'bfloat16']) {
    for (const options of [{}, { causal: true }, { layout: 'BSHD', keyLengths: lengths }]) {
      const generator = new Generator(1);
      const inner = options.layout === 'BSHD';
      const draw = (heads, tokens) =>
        randn(inner ? [2, tokens, heads, 40] : [2, heads, tokens, 40], { generator, dtype });
      const [q, tq, g, h] = [0, 0, 0, 0].map(() => draw(6, 290));
      const [k, v, tk, tv] = [0, 0, 0, 0].map(() => draw(2, 300));
      const f = (a, b, c) => attention(a, b, c, options);
      const [values, pullback] = vjp((a, b, c, d, e, i) => jvp(f, [a, b, c], [d, e, i]), [q, k, v, tq, tk, tv]);
      for (const [at, x] of [...values, ...pullback([g, h])].entries()) {
        const { buffer, byteOffset, byteLength } = x.dataSync();
        const hash = createHash('sha256').update(new Uint8Array(buffer, byteOffset, byteLength)).digest('hex');
        console.log(dtype, JSON.stringify(options.layout ?? options), at, hash);
      }
    }
  }`;

describeOnDevices('structure of attention', (device, label) => {
  const { attention, checkOp, grad, jvp, tensor, vjp, zeros } = on(device);
  const sizes =
    label === 'cuda-emulated'
      ? { batch: 2, heads: 2, queries: 33, keys: 40, dim: 20 }
      : { batch: 2, heads: 2, queries: 100, keys: 130, dim: 40 };
  const tensors = () =>
    operands(sizes, 'BHSD').map(({ shape, values }) => tensor(Float32Array.from(Array.from(values)), { shape }));

  const resultNames = ['o', 'to', 'gq', 'gk', 'gv', 'gtq', 'gtk', 'gtv'] as const;
  type Results = Record<(typeof resultNames)[number], Float32Array>;

  // Of q, k, v, tq, tk, tv, g, h.
  const everything = (operands: Tensor[], options: AttentionOptions = {}): Results => {
    const [q, k, v, tq, tk, tv, g, h] = operands as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    const [values, pullback] = vjp(
      (...x: Tensor[]) =>
        jvp(
          (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, options),
          [x[0]!, x[1]!, x[2]!],
          [x[3], x[4], x[5]],
        ),
      [q, k, v, tq, tk, tv],
    );
    const results = [...values, ...(pullback([g, h]) as Tensor[])].map((x) => x.dataSync() as Float32Array);
    pullback.dispose();
    return Object.fromEntries(resultNames.map((name, i) => [name, results[i]!])) as Results;
  };

  it('treats a null tangent as zeros, at the same value', () => {
    const [q, k, v, tq] = tensors() as [Tensor, Tensor, Tensor, Tensor];
    const f = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c);
    const [o, to] = jvp(f, [q, k, v], [tq, null, null]);
    const [o0, to0] = jvp(f, [q, k, v], [tq, zeros(k.shape), zeros(v.shape)]);
    expect([...o.dataSync()]).toEqual([...o0.dataSync()]);
    expect([...o.dataSync()]).toEqual([...attention(q, k, v).dataSync()]);
    expect(relativeError(to.dataSync(), to0.dataSync())).toBeLessThan(1e-6);
  });

  it.each([
    { batch: 1, heads: 2, keyHeads: 1, queries: 3, keys: 5, dim: 6 },
    ...(label === 'cuda-emulated' ? [] : [{ batch: 2, heads: 4, keyHeads: 2, queries: 37, keys: 34, dim: 3 }]),
  ])('takes what is absent for zero and leaves out what is not needed: $queries queries', (few) => {
    const [q, k, v, tq, tk, tv, g, h] = operands(few, 'BHSD').map(({ shape, values }) =>
      tensor(Float32Array.from(values), { shape }),
    ) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    const handle = (x: Tensor | null) => (x ? x._handle : null);
    const backward = ([a, b, c, u, w]: (Tensor | null)[], needs: number[]) => {
      const tangents = [handle(a!), handle(b!), handle(c!)] as const;
      const operands = [q._handle, k._handle, v._handle, ...tangents] as const;
      const settings = settingsOf(few.dim, { causal: true, scale: 0.4 }, null);
      const [o, to, lse, mu] = native.attentionJvp(...operands, ...settings);
      const cotangents = [handle(u!), handle(w!)] as const;
      const found = native.attentionJvpVjp(...operands, o, to, lse, mu, ...cotangents, ...settings, [...needs, 0, 0]);
      return [to, mu, ...found.slice(0, 6)].map((x) => (x == null ? null : new Tensor(x).dataSync()));
    };
    const every = [tq, tk, tv, g, h];
    for (let present = 0; present < 32; present++) {
      const has = every.map((_, i) => (present & (1 << i)) !== 0);
      if (!has[3] && !has[4]) continue;
      const needs = Array.from({ length: 6 }, (_, i) => (present + i) % 2);
      const got = backward(
        every.map((x, i) => (has[i] ? x : null)),
        needs,
      );
      const expected = backward(
        every.map((x, i) => (has[i] ? x : zeros(x.shape))),
        [1, 1, 1, 1, 1, 1],
      );
      for (const [i, values] of got.entries()) {
        if (i >= 2 && !needs[i - 2]) expect(values).toBe(null);
        else expect(relativeError(values!, expected[i]!)).toBeLessThan(1e-6);
      }
    }
  });

  it('gives heads among hundreds what it gives a few of them', () => {
    const many = { batch: 130, heads: 2, queries: 1, keys: 2, dim: 2 };
    const run = (from: number, batch: number) => {
      const [q, k, v, g] = operands(many, 'BHSD').map(({ shape, values }) => {
        const size = shape.slice(1).reduce((x, y) => x * y, 1);
        const part = Float32Array.from(values).subarray(from * size, (from + batch) * size);
        return tensor(part, { shape: [batch, ...shape.slice(1)] });
      }) as [Tensor, Tensor, Tensor, Tensor];
      const [o, pullback] = vjp((a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c), [q, k, v]);
      const results = [o, ...(pullback(g) as Tensor[])].map((x) => x.dataSync() as Float32Array);
      pullback.dispose();
      return results;
    };
    const all = run(0, many.batch);
    for (const [from, batch] of [
      [0, 1],
      [126, 4],
    ] as const) {
      for (const [i, some] of run(from, batch).entries()) {
        const size = all[i]!.length / many.batch;
        expect(relativeError(some, all[i]!.subarray(from * size, (from + batch) * size))).toBeLessThan(1e-6);
      }
    }
  });

  it('has gradients of keys that sum to zero, and does not see a constant added to the keys', () => {
    const [q, k, v] = tensors() as [Tensor, Tensor, Tensor];
    const f = (x: Tensor) => attention(q, x, v).square().sum();
    const gk = grad(f)(k) as Tensor;
    const size = gk.square().sum().itemSync();
    expect(gk.sum(2).square().sum().itemSync() / size).toBeLessThan(1e-9);
    expect(relativeError(attention(q, k.add(1), v).dataSync(), attention(q, k, v).dataSync())).toBeLessThan(1e-5);
  });

  it('gives the same bits on every run', () => {
    expect(everything(tensors())).toEqual(everything(tensors()));
  });

  it.each([
    ['all keys', {}],
    ['a causal mask', { causal: true }],
  ])('pulls a cotangent of the tangent back to tangents as one of the output to primals: %s', (_, options) => {
    const operands = tensors();
    const [q, k, v, , , , , h] = operands as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    const { gtq, gtk, gtv } = everything(operands, options);
    const [, pullback] = vjp((a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, options), [q, k, v]);
    const plain = (pullback(h) as Tensor[]).map((x) => x.dataSync());
    pullback.dispose();
    for (const [i, found] of [gtq, gtk, gtv].entries()) expect(relativeError(found, plain[i]!)).toBeLessThan(1e-6);
  });

  it('follows its keys and values wherever they are put', () => {
    const { keys, dim } = sizes;
    const order = Array.from({ length: keys }, (_, j) => (j * 37 + 11) % keys);
    const moved = (x: Float32Array) =>
      x.map((_, at) => {
        const row = Math.floor(at / dim);
        return x[(row - (row % keys) + order[row % keys]!) * dim + (at % dim)]!;
      });
    const isOfKeys = [false, true, true, false, true, true, false, false];
    const operands = tensors();
    const before = everything(operands);
    const after = everything(
      operands.map((x, i) => (isOfKeys[i] ? tensor(moved(x.dataSync() as Float32Array), { shape: x.shape }) : x)),
    );
    for (const name of ['o', 'to', 'gq', 'gtq'] as const)
      expect(relativeError(after[name], before[name])).toBeLessThan(2e-6);
    for (const name of ['gk', 'gv', 'gtk', 'gtv'] as const) {
      expect(relativeError(after[name], moved(before[name]))).toBeLessThan(2e-6);
      expect(relativeError(after[name], before[name])).toBeGreaterThan(0.1);
    }
  });

  it("does not see a constant added to the keys' tangents", () => {
    const operands = tensors();
    const before = everything(operands);
    const constant = tensor(Float32Array.from({ length: sizes.dim }, (_, i) => Math.cos(3 * i)));
    const after = everything(operands.map((x, i) => (i === 4 ? x.add(constant) : x)));
    expect(after.o).toEqual(before.o);
    for (const name of resultNames) expect(relativeError(after[name], before[name])).toBeLessThan(1e-5);
  });

  it('gives the same bits with one thread and with three', () => {
    if (device !== 'cpu') return;
    const hashes = (threads: number) =>
      execFileSync(process.execPath, ['-e', hashing], {
        env: { ...process.env, FLOWMAP_THREADS: String(threads) },
        encoding: 'utf8',
      });
    const [one, three] = [hashes(1), hashes(3)];
    expect(one).toMatch(/^threads 1$/m);
    expect(three).toMatch(/^threads 3$/m);
    expect(one.trimEnd().split('\n')).toHaveLength(1 + 9 * resultNames.length);
    expect(three.replace('threads 3', 'threads 1')).toBe(one);
  });

  it('differentiates to third order through its composition', () => {
    const small = { batch: 1, heads: 2, keyHeads: 1, queries: 3, keys: 4, dim: 3 };
    const [q, k, v, tq, tk, tv] = operands(small, 'BSHD') as [Sample, Sample, Sample, Sample, Sample, Sample];
    const upload = ({ shape, values }: Sample) => tensor(Float64Array.from(Array.from(values)), { shape });
    const tangents: [Tensor, Tensor, Tensor] = [upload(tq), upload(tk), upload(tv)];
    const first = (a0: Tensor, b0: Tensor, c0: Tensor) =>
      jvp(
        (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, { layout: 'BSHD', causal: true }),
        [a0, b0, c0],
        tangents,
      )[1];
    checkOp((a, b, c) => first(a!, b!, c!), [q, k, v], { dtypes: ['float64'], tolerance: 1e-5 });
    const [more, keyLengths] = [{ ...small, batch: 2 }, tensor(Int32Array.of(4, 2))];
    checkOp(
      (a, b, c) => grad((x: Tensor) => attention(x, b!, c!, { causal: true, keyLengths }).square().sum())(a!),
      operands(more, 'BHSD').slice(0, 3),
      { dtypes: ['float64'], tolerance: 1e-5 },
    );
    checkOp((x) => grad((y: Tensor) => attention(y, y, y).square().sum())(x!), [sample([1, 1, 4, 3], 5)], {
      dtypes: ['float64'],
      tolerance: 1e-5,
    });
  });
});

describeOnDevices('refusals of attention', (device) => {
  const { add, attention, grad, ones, tensor, zeros } = on(device);
  const x = (...shape: number[]) => zeros(shape);
  it.each([
    ['a rank', () => attention(x(2, 3, 4), x(2, 3, 4), x(2, 3, 4)), /attention: q must have rank 4/],
    [
      'a key batch',
      () => attention(x(2, 1, 3, 4), x(1, 1, 3, 4), x(1, 1, 3, 4)),
      /k must have the batch and head size of q/,
    ],
    ['a value shape', () => attention(x(1, 1, 3, 4), x(1, 1, 3, 4), x(1, 1, 2, 4)), /v must have shape/],
    ['a head count', () => attention(x(1, 3, 3, 4), x(1, 2, 3, 4), x(1, 2, 3, 4)), /multiple of k's 2 heads, got 3/],
    [
      'a wide head',
      () => attention(x(1, 1, 1, 257), x(1, 1, 1, 257), x(1, 1, 1, 257)),
      /head size in \[1, 256\], got 257/,
    ],
    [
      'a NaN scale',
      () => attention(x(1, 1, 1, 4), x(1, 1, 1, 4), x(1, 1, 1, 4), { scale: Number.NaN }),
      /scale must be a finite number/,
    ],
    [
      'a layout',
      () => attention(x(1, 1, 1, 4), x(1, 1, 1, 4), x(1, 1, 1, 4), { layout: 'SBHD' as never }),
      /layout must be 'BHSD' or 'BSHD', got 'SBHD'/,
    ],
    [
      'an option',
      () => attention(x(1, 1, 1, 4), x(1, 1, 1, 4), x(1, 1, 1, 4), { casual: true } as never),
      /got 'casual'/,
    ],
    [
      'key lengths',
      () => attention(x(2, 1, 1, 4), x(2, 1, 1, 4), x(2, 1, 1, 4), { keyLengths: tensor([1, 1]) }),
      /keyLengths must be int32, got float32/,
    ],
  ])('names the op and %s that does not fit', (_, call, message) => {
    expect(call).toThrow(message);
  });

  it.each([-3, 3])('names a number of keys that is none: %i of 2', (length) => {
    const out = attention(x(1, 1, 1, 4), x(1, 1, 2, 4), x(1, 1, 2, 4), { keyLengths: tensor(Int32Array.of(length)) });
    expect(() => out.dataSync()).toThrow(`keyLengths must be in [0, 2], got ${length} in row 0`);
  });

  it('makes nothing that looks right of a number of keys that is none', () => {
    const q = ones([2, 1, 1, 2]);
    const k = ones([2, 1, 3, 2]);
    const keyLengths = tensor(Int32Array.of(3, 4));
    const out = attention(q, k, k, { keyLengths });
    const sum = add(out, 1);
    expect(() => out.dataSync()).toThrow('attention: keyLengths must be in [0, 3], got 4 in row 1');
    // On the CPU the error goes along with values; on a GPU it was not known yet.
    if (device === 'cpu') expect(() => sum.dataSync()).toThrow('keyLengths');
    else expect([...sum.dataSync()]).toEqual([2, 2, Number.NaN, Number.NaN]);
    const backward = () => grad((x: Tensor) => attention(q, x, k, { keyLengths }).sum())(k).dataSync();
    expect(backward).toThrow('attention: keyLengths must be in [0, 3], got 4 in row 1');
  });

  it('names a missing cotangent', () => {
    const h = x(1, 1, 1, 4)._handle;
    expect(() =>
      native.attentionJvpVjp(h, h, h, null, null, null, h, null, h, null, null, null, ...settingsOf(4, {}, null), []),
    ).toThrow(/at least one of g and h/);
  });
});
