// The fused kernels with packed sequences, QKNorm and centred keys, on 16-bit data: what must hold to the bit against
// sequences alone and QKNorm before, and what centring is for.
import type { AttentionOptions, Tensor } from '../../lib';
import { attentionGradientsOf } from '../support/attentionGradients';
import type { Narrow } from '../support/attentionOracle';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { makeAdversarial, narrow, operandsOf, relativeNorm, shapesOf, sizesOf } from '../support/fusedAttention';

const dims = [24, 64, 72, 96, 128];

describeOnDevices('fused attention and its options', (device, label) => {
  const { attention, jvp, rmsNorm, slice, tensor, vjp } = on(device);
  const int32 = (...values: number[]) => tensor(Int32Array.from(values));
  type Sixth = readonly [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];

  /** o, to, and the gradients of q, k, v, tq, tk, tv and what else `f` takes. */
  function everything(
    operands: readonly Tensor[],
    f: (q: Tensor, k: Tensor, v: Tensor, ...more: Tensor[]) => Tensor,
    more: readonly Tensor[] = [],
  ): Float64Array[] {
    const [g, h] = operands.slice(6) as [Tensor, Tensor];
    const both = (...x: Tensor[]) => {
      const [q, k, v, tq, tk, tv] = x as unknown as Sixth;
      return jvp((a: Tensor, b: Tensor, c: Tensor) => f(a, b, c, ...x.slice(6)), [q, k, v], [tq, tk, tv]);
    };
    const [values, pullback] = vjp(both, [...operands.slice(0, 6), ...more]);
    return [...values, ...(pullback([g, h]) as Tensor[])].map((x) => Float64Array.from(x.dataSync()));
  }

  function draw(queries: number, keys: number, dim: number, dtype: Narrow, heads = 2): Tensor[] {
    const sizes = sizesOf(queries, keys, dim, { heads, keyHeads: 1 });
    const shapes = shapesOf(sizes, 'BSHD');
    return operandsOf(sizes, dtype, 'BSHD').map((x, i) => tensor(x, { shape: shapes[i]!.slice(1), dtype }));
  }

  it.each(dims.map((dim, i) => [dim, narrow[i % 2]!] as const))(
    'gives packed sequences the bits they get alone, %i wide, %s',
    (dim, dtype) => {
      const [queries, keys] = [
        [0, 20, 20, 95, 96],
        [0, 33, 37, 37, 110],
      ] as const;
      const operands = draw(96, 110, dim, dtype);
      const options = { queryOffsets: int32(...queries), keyOffsets: int32(...keys), causal: true };
      const together = everything(operands, (q, k, v) => attention(q, k, v, options));
      const sides = [queries, keys, keys, queries, keys, keys, queries, queries];
      for (let i = 0; i < 4; i++) {
        const alone = operands.map((x, at) => {
          const part = slice(x, [sides[at]![i]!, 0, 0], [sides[at]![i + 1]!, x.shape[1]!, dim]);
          return part.reshape([1, ...part.shape]);
        });
        const expected = everything(alone, (q, k, v) => attention(q, k, v, { layout: 'BSHD', causal: true }));
        const rows = [queries, queries, ...sides];
        for (const [at, x] of expected.entries()) {
          const perRow = together[at]!.length / rows[at]!.at(-1)!;
          const found = together[at]!.subarray(rows[at]![i]! * perRow, rows[at]![i + 1]! * perRow);
          // The CPU adds the gradients of keys up over tasks, whose number may differ.
          if (label === 'cpu') expect(relativeNorm(found, x)).toBeLessThan(1e-3);
          else expect(found).toEqual(x);
        }
      }
    },
  );

  it.each(dims.map((dim, i) => [dim, narrow[(i + 1) % 2]!] as const))(
    'gives with QKNorm inside what it gives before, but for a few roundings, %i wide, %s',
    (dim, dtype) => {
      const operands = draw(40, 45, dim, dtype).map((x) => x.reshape([1, ...x.shape]));
      const weights = [1, 2].map((by) =>
        tensor(
          Float64Array.from({ length: dim }, (_, i) => 1 + Math.sin(by * i) / 2),
          { dtype },
        ),
      );
      const options: AttentionOptions = { layout: 'BSHD', causal: true };
      const inside = everything(
        operands,
        (q, k, v, u, w) => attention(q, k, v, { ...options, qkNorm: { qWeight: u!, kWeight: w! } }),
        weights,
      );
      const before = everything(
        operands,
        (q, k, v, u, w) => attention(rmsNorm(q, u!), rmsNorm(k, w!), v, options),
        weights,
      );
      // On the CPU nothing is rounded in between; on CUDA statistics are summed in another order.
      const room = (label === 'cpu' ? 1 : 0.05) * (dtype === 'bfloat16' ? 1e-2 : 1e-3);
      for (const [i, x] of inside.entries()) expect([i, relativeNorm(x, before[i]!) <= room]).toEqual([i, true]);
    },
  );

  it.each(narrow)('loses less of keys with a large common part where they are centred, in %s', (dtype) => {
    const sizes = sizesOf(40, 70, 64);
    const given = operandsOf(sizes, dtype);
    makeAdversarial('key offset', given, dtype, 64, 1);
    const exact = attentionGradientsOf(given.slice(0, 6), [given[6]!, given[7]!], sizes, {});
    const shapes = shapesOf(sizes);
    const operands = given.map((x, i) => tensor(x, { shape: shapes[i]!, dtype }));
    const [plain, centred] = [false, true].map((centerKeys) =>
      everything(operands, (q, k, v) => attention(q, k, v, { centerKeys })),
    ) as [Float64Array[], Float64Array[]];
    // gq and gtq: sums of keys times weights that cancel.
    for (const i of [0, 3]) {
      const [with_, without] = [relativeNorm(centred[2 + i]!, exact[i]!), relativeNorm(plain[2 + i]!, exact[i]!)];
      expect(with_).toBeLessThan(dtype === 'bfloat16' ? 6e-3 : 8e-4);
      // The CPU centres keys in the backward pass as it is.
      if (label !== 'cpu') expect(with_).toBeLessThan(without / 2);
    }
  });
});
