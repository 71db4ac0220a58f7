// The fused kernels with packed sequences, QKNorm and centred keys, on 16-bit data: what must hold to the bit against
// sequences alone and QKNorm before, and what centring is for.
import { type AttentionOptions, memory, resetPeakMemory, synchronizeSync, type Tensor } from '../../lib';
import { attentionGradientsOf } from '../support/attentionGradients';
import type { Narrow } from '../support/attentionOracle';
import { on } from '../support/deviceLibrary';
import { describeOnDevices, onHopper } from '../support/devices';
import { makeAdversarial, narrow, operandsOf, relativeNorm, shapesOf, sizesOf } from '../support/fusedAttention';

const dims = [24, 64, 72, 96, 128];

describeOnDevices('fused attention and its options', (device, label) => {
  const { attention, captureGraph, grad, jvp, rmsNorm, slice, square, sum, tensor, vjp } = on(device);
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
          else if (onHopper) expect(relativeNorm(found, x)).toBeLessThan(dtype === 'bfloat16' ? 1e-2 : 1e-3);
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
      // On the CPU nothing is rounded in between; on CUDA statistics are summed in another order, on Hopper all is.
      const room = (label === 'cpu' || onHopper ? 1 : 0.05) * (dtype === 'bfloat16' ? 1e-2 : 1e-3);
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

  it.each(['bfloat16', 'float32'] as const)(
    'names offsets that do not fit, whatever is made of operands before, and goes on, in %s',
    (dtype) => {
      const draws = [12, 9, 9].map((tokens) =>
        tensor(new Float32Array(tokens * 16).fill(1), { shape: [tokens, 2, 8], dtype }),
      );
      const [q, k, v] = draws as [Tensor, Tensor, Tensor];
      const run = (...queries: number[]) => {
        const options = { queryOffsets: int32(...queries), keyOffsets: int32(0, 9, 9), centerKeys: true, qkNorm: true };
        const [values, pullback] = vjp(
          (a: Tensor, b: Tensor, c: Tensor) =>
            jvp((x: Tensor, y: Tensor, z: Tensor) => attention(x, y, z, options), [a, b, c], [q, k, v]),
          [q, k, v],
        );
        return [...values, ...(pullback([q, q]) as Tensor[])].map((x) => x.dataSync());
      };
      expect(() => run(0, 5, 11)).toThrow(/^attention(Jvp)?: queryOffsets must end at 12 \(the queries\), got 11/);
      expect(() => run(0, 13, 12)).toThrow(
        /^attention(Jvp)?: queryOffsets must not decrease, got 12 after 13 at index 2/,
      );
      expect(run(0, 5, 12).every((x) => [...x].every((y) => Number.isFinite(Number(y))))).toBe(true);
    },
  );

  it('does not see what lies beyond the keys that count with QKNorm, be it NaN', () => {
    const sizes = sizesOf(20, 70, 64, { batch: 2 });
    const shapes = shapesOf(sizes);
    const keyLengths = int32(37, 64);
    const run = (fill: number) => {
      const operands = operandsOf(sizes, 'bfloat16').map((x, i) => {
        const beyond = (at: number) => Math.floor(at / 64) % 70 >= [37, 64][Math.floor(at / 4480)]!;
        const filled = i % 3 === 0 || i > 5 ? x : x.map((y, at) => (beyond(at) ? fill : y));
        return tensor(filled, { shape: shapes[i]!, dtype: 'bfloat16' });
      });
      return everything(operands, (q, k, v) => attention(q, k, v, { keyLengths, centerKeys: true, qkNorm: true }));
    };
    const spoilt = run(Number.NaN);
    expect(spoilt).toEqual(run(0));
    expect(spoilt.every((x) => x.every(Number.isFinite))).toBe(true);
  });

  (label === 'cpu' ? it.skip : it)('replays packed sequences and QKNorm from a graph', () => {
    const [q, k, v] = draw(50, 40, 64, 'bfloat16') as [Tensor, Tensor, Tensor];
    const keyOffsets = int32(0, 33, 40);
    const step = (x: Tensor, queryOffsets: Tensor) =>
      grad((y: Tensor) => {
        const options = { queryOffsets, keyOffsets, centerKeys: true, qkNorm: true };
        return sum(square(jvp((z: Tensor) => attention(z, k, v, options), [y], [q])[1]));
      })(x) as Tensor;
    const recorded = captureGraph(step, { device });
    for (const end of [20, 20, 45, 50]) {
      const queryOffsets = int32(0, end, 50);
      expect(recorded(q, queryOffsets).dataSync()).toEqual(step(q, queryOffsets).dataSync());
    }
    expect(recorded.captured).toBe(true);
    recorded.dispose();
  });

  it('takes memory that grows as the number of tokens', () => {
    const peak = (tokens: number) => {
      const operands = draw(tokens, tokens, 8, 'bfloat16', 1).map((x) => x.reshape([1, ...x.shape]));
      const [q, k, v, tq, tk, tv, g, h] = operands as unknown as [...Sixth, Tensor, Tensor];
      synchronizeSync(device);
      const before = memory(device).bytes;
      resetPeakMemory(device);
      const [values, pullback] = vjp(
        (a: Tensor, b: Tensor, c: Tensor) =>
          jvp((x: Tensor, y: Tensor, z: Tensor) => attention(x, y, z, { layout: 'BSHD' }), [a, b, c], [tq, tk, tv]),
        [q, k, v],
      );
      const gradients = pullback([g, h]) as Tensor[];
      synchronizeSync(device);
      const bytes = memory(device).peakBytes - before;
      for (const x of [...operands, ...values, ...gradients, pullback]) x.dispose();
      return bytes;
    };
    // On the CPU tiles of a fixed size are most of it; whole matrices of scores would be four times as many bytes.
    expect(peak(1024)).toBeLessThan(2.5 * peak(512));
  });
});
