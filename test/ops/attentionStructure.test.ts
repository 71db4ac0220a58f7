// Attention's structure, on every device: identities that must hold, exactly or but for rounding; what is absent; the same
// bits on every run; derivatives to third order; refusals.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { type AttentionOptions, Tensor } from '../../lib';
import { native } from '../../lib/native';
import { operands } from '../support/attentionOperands';
import { relativeError, type Sample, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { settingsOf } from '../support/fusedAttention';

// A child's program: the number of threads, and a hash of each result of attention in several settings.
const hashing = `
  const { createHash } = require('node:crypto');
  const { Generator, attention, jvp, randn, tensor, threads, vjp } = require(${JSON.stringify(join(__dirname, '..', '..', 'dist', 'lib'))});
  console.log('threads', threads());
  const lengths = tensor(Int32Array.of(300, 77));
  const packedOffsets = {
    queryOffsets: tensor(Int32Array.of(0, 7, 7, 250, 290)),
    keyOffsets: tensor(Int32Array.of(0, 9, 20, 280, 300)),
  };
  for (const dtype of ['float32', 'float64', 'bfloat16']) {
    const packed = { ...packedOffsets, causal: true, qkNorm: true, centerKeys: true };
    for (const options of [{}, { causal: true }, { layout: 'BSHD', keyLengths: lengths }, packed]) {
      const generator = new Generator(1);
      const inner = options.layout === 'BSHD';
      const draw = (heads, tokens) =>
        randn(options === packed ? [tokens, heads, 40] : inner ? [2, tokens, heads, 40] : [2, heads, tokens, 40], { generator, dtype });
      const [q, tq, g, h] = [0, 0, 0, 0].map(() => draw(6, 290));
      const [k, v, tk, tv] = [0, 0, 0, 0].map(() => draw(2, 300));
      const f = (a, b, c) => attention(a, b, c, options);
      const [values, pullback] = vjp((a, b, c, d, e, i) => jvp(f, [a, b, c], [d, e, i]), [q, k, v, tq, tk, tv]);
      for (const [at, x] of [...values, ...pullback([g, h])].entries()) {
        const { buffer, byteOffset, byteLength } = x.dataSync();
        const hash = createHash('sha256').update(new Uint8Array(buffer, byteOffset, byteLength)).digest('hex');
        console.log(dtype, JSON.stringify(options === packed ? 'packed' : options.layout ?? options), at, hash);
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
      const found = native.attentionJvpVjp(...operands, o, to, lse, mu, ...cotangents, ...settings, true, [
        ...needs,
        0,
        0,
      ]);
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
    expect(one.trimEnd().split('\n')).toHaveLength(1 + 12 * resultNames.length);
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
      "an option called as objects' own functions are",
      () => attention(x(1, 1, 1, 4), x(1, 1, 1, 4), x(1, 1, 1, 4), { toString: true } as never),
      /got 'toString'/,
    ],
    [
      'a way to add up',
      () => attention(x(1, 1, 1, 4), x(1, 1, 1, 4), x(1, 1, 1, 4), { deterministic: 'no' } as never),
      /attention: deterministic must be a boolean, got no/,
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
      native.attentionJvpVjp(
        h,
        h,
        h,
        null,
        null,
        null,
        h,
        null,
        h,
        null,
        null,
        null,
        ...settingsOf(4, {}, null),
        true,
        [],
      ),
    ).toThrow(/at least one of g and h/);
  });
});
