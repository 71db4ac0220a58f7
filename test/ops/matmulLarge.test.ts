// Products on the CPU around the sizes at which B is packed: values against float64, whatever the order of the operands and
// whatever is absent; bits that depend neither on the threads nor on the other rows.
import fc from 'fast-check';
import { linear, matmul, randn, setThreads, slice, type Tensor, tensor, threads, tidy } from '../../lib';
import { linearJvp, linearJvpVjp } from '../../lib/ops/matmul';
import { relativeError } from '../support/checkOp';
import { tolerances } from '../support/tolerances';

const wide = (x: Tensor | null) => x?.to({ dtype: 'float64' }) ?? null;
const bits = (x: Tensor) => Buffer.from((x.dataSync() as Float32Array).slice().buffer);

function compare(got: readonly (Tensor | null)[], expected: readonly (Tensor | null)[]) {
  expect(got.length).toBe(expected.length);
  for (const [i, y] of got.entries()) {
    expect(relativeError(y!.dataSync(), expected[i]!.dataSync())).toBeLessThan(tolerances.float32);
  }
}

describe('a product', () => {
  // Rows in groups, columns in vectors, the inner axis in panels: on either side of a multiple, and of what a pass takes.
  const rows = fc.oneof(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 370, max: 420 }));
  const columns = fc.oneof(fc.integer({ min: 1, max: 150 }), fc.integer({ min: 1500, max: 1600 }));
  const inner = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(511, 512, 513, 1025, 1540, 4700));

  it('is that of float64', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.boolean(), rows, columns, inner, (transposeA, transposeB, m, n, k) =>
        tidy(() => {
          const [a, b] = [randn(transposeA ? [k, m] : [m, k]), randn(transposeB ? [n, k] : [k, n])];
          const options = { transposeA, transposeB };
          compare([matmul(a, b, options)], [matmul(wide(a)!, wide(b)!, options)]);
        }),
      ),
      { numRuns: 30 },
    );
  });

  it.each([
    [385, 1537, 513, false, false],
    [400, 48, 1600, true, false],
    [1601, 1601, 300, false, true],
    [700, 1700, 1700, false, false],
    [130, 3000, 420, true, true],
  ])('is that of float64 at %i × %i over %i, transposes %s, %s', (m, n, k, transposeA, transposeB) => {
    tidy(() => {
      const [a, b] = [randn(transposeA ? [k, m] : [m, k]), randn(transposeB ? [n, k] : [k, n])];
      const options = { transposeA, transposeB };
      compare([matmul(a, b, options)], [matmul(wide(a)!, wide(b)!, options)]);
    });
  });

  it('has the same bits beside other rows', () => {
    const [x, w, b] = [randn([1000, 300]), randn([200, 300]), randn([200])];
    const all = linear(x, w, b);
    for (const [from, to] of [
      [0, 24],
      [7, 650],
      [513, 1000],
    ] as const) {
      const some = linear(slice(x, [from], [to]), w, b);
      expect(Buffer.compare(bits(some), bits(slice(all, [from], [to])))).toBe(0);
    }
  });

  it('has the same bits on any number of threads', () => {
    const before = threads();
    const [x, g] = [randn([900, 320]), randn([900, 500])];
    const results = [1, 2, 3, 5].map((count) => {
      setThreads(count);
      return bits(matmul(g, x, { transposeA: true }));
    });
    setThreads(before);
    for (const result of results.slice(1)) expect(Buffer.compare(result, results[0]!)).toBe(0);
  });
});

describe('a linear layer with its tangent', () => {
  it.each([
    [100, 70, 90],
    [2048, 130, 130],
    [600, 1100, 56],
    [777, 64, 1549],
  ])('is that of float64 over %i rows, %i in, %i out, whatever is absent', (rows, inputs, outputs) => {
    const [x, w, b] = [randn([rows, inputs]), randn([outputs, inputs]), randn([outputs])];
    const tangents = [randn([rows, inputs]), randn([outputs, inputs]), randn([outputs])];
    const cotangents = [randn([rows, outputs]), randn([rows, outputs])];
    const present = (mask: number, all: readonly Tensor[]) => all.map((t, i) => (mask & (1 << i) ? t : null));
    for (let mask = 1; mask < 8; mask++) {
      tidy(() => {
        const [tx, tw, tb] = present(mask, tangents);
        const bias = mask & 4 ? b : null;
        compare(
          linearJvp([x, w, bias], [tx!, tw!, tb!]),
          linearJvp([wide(x)!, wide(w)!, wide(bias)], [wide(tx!), wide(tw!), wide(tb!)]),
        );
      });
    }
    const needs = [true, true, true, true, true, true];
    for (let mask = 1; mask < 16; mask++) {
      if ((mask & 3) === 0) continue;
      tidy(() => {
        const [tx, tw, g, h] = [...present(mask >> 2, tangents.slice(0, 2)), ...present(mask & 3, cotangents)];
        compare(
          linearJvpVjp([x, w, tx!, tw!], g!, h!, needs),
          linearJvpVjp([wide(x)!, wide(w)!, wide(tx!), wide(tw!)], wide(g!), wide(h!), needs),
        );
      });
    }
  });

  it('leaves what is not finite in its row', () => {
    const [x, w] = [randn([400, 96]), randn([100, 96])];
    const poisoned = x.dataSync().slice() as Float32Array;
    poisoned[17 * 96 + 5] = Number.NaN;
    const y = linear(x, w).dataSync();
    const got = linear(tensor(poisoned, { shape: [400, 96] }), w).dataSync();
    for (let i = 0; i < got.length; i++) {
      if (Math.floor(i / 100) === 17) expect(got[i]).toBeNaN();
      else if (got[i] !== y[i]) throw new Error(`element ${i}: ${got[i]}, not ${y[i]}`);
    }
  });
});
