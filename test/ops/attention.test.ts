// Attention, its tangent and the backward of both, on every device, against float64 loops over whole matrices: odd sizes,
// adversarial data, masks, grouped heads, both layouts.
import type { AttentionOptions, Tensor } from '../../lib';
import { type Adversary, operands, type Sizes } from '../support/attentionOperands';
import type { Six } from '../support/attentionOracle';
import { relativeError } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { type FloatingDType, tolerances } from '../support/tolerances';

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
  const [gq, gk, gv, gtq, gtk, gtv] = grads as Six;
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
    ['one dominant key', 2], // of few queries, whose sum in gtk cancels
  ] as [Adversary, number][])('holds to float64 on adversarial data: %s', (adversary, slackOfFew) => {
    const few = { batch: 1, heads: 1, queries: 40, keys: 50, dim: 64 };
    const many = { batch: 1, heads: 2, queries: 130, keys: 150, dim: 64 };
    for (const sizes of emulated ? [few] : [few, many]) {
      const slack = sizes === many && adversary === 'one dominant key' ? 1 : slackOfFew;
      check(device, sizes, {}, 'float32', { adversary, slack });
      check(device, sizes, {}, 'float64', { adversary, slack });
    }
  });

  it('gives zeros, and zero gradients, where there is no key at all', () => {
    const [q, k] = [tensor([[[[1, 2]]]]), zeros([1, 1, 0, 2])];
    expect([...attention(q, k, k).dataSync()]).toEqual([0, 0]);
    expect([...grad((x: Tensor) => attention(x, k, k).sum())(q).dataSync()]).toEqual([0, 0]);
    expect(attention(zeros([1, 1, 0, 2]), q, q).shape).toEqual([1, 1, 0, 2]);
  });
});
