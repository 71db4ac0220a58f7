// The gated residual on every device: values in every dtype, derivatives to third order, what is absent or not needed,
// sums over tokens that several blocks share, fixed bits.
import { native } from '../../lib/native';
import { Tensor } from '../../lib/tensor';
import { relativeError, type Sample, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { floatingDTypes, tolerances } from '../support/tolerances';

describeOnDevices('gatedResidual', (device) => {
  const { checkOp, gatedResidual, grad, jvp, ones, tensor, zeros } = on(device);

  const inputs = (batch: number, tokens: number, width: number): Sample[] => [
    sample([batch, tokens, width], 1),
    sample([batch, width], 2),
    sample([batch, tokens, width], 3),
  ];
  const reference = (tokens: number, width: number) => (x: Float64Array, gate: Float64Array, z: Float64Array) =>
    x.map((v, i) => v + gate[Math.floor(i / (tokens * width)) * width + (i % width)]! * z[i]!);
  const handle = (t: Tensor | null) => (t ? t._handle : null);
  const wrap = (handles: readonly (number | null | undefined)[]) =>
    handles.map((t) => (t == null ? null : new Tensor(t)));

  it.each([
    [3, 5, 7],
    [2, 3, 8],
    [1, 1, 1],
  ])('adds what the gate lets through at [%i, %i, %i]', (batch, tokens, width) => {
    checkOp((x, gate, z) => gatedResidual(x!, gate!, z!), inputs(batch, tokens, width), {
      reference: reference(tokens, width),
    });
  });

  it.each([
    [3, 700, 1],
    [2, 65, 72],
    [3, 9, 100],
    [2, 3, 1152],
    [1, 2, 4097],
    [5, 1, 24],
  ])('is right in every dtype at [%i, %i, %i]', (batch, tokens, width) => {
    checkOp((x, gate, z) => gatedResidual(x!, gate!, z!), inputs(batch, tokens, width), {
      reference: reference(tokens, width),
      differentiable: false,
    });
  });

  it('handles no samples, no tokens, and no features', () => {
    expect(gatedResidual(zeros([0, 3, 4]), zeros([0, 4]), zeros([0, 3, 4])).shape).toEqual([0, 3, 4]);
    expect(gatedResidual(zeros([2, 3, 0]), zeros([2, 0]), zeros([2, 3, 0])).shape).toEqual([2, 3, 0]);
    const none = zeros([2, 0, 4]);
    const gate = ones([2, 4]);
    expect(gatedResidual(none, gate, none).shape).toEqual([2, 0, 4]);
    const { _handle: z } = none;
    const sums = native.gatedResidualJvpVjp(gate._handle, z, null, null, z, z, true, true, true, true);
    expect(wrap(sums).map((t) => [...t!.dataSync()])).toEqual([Array(8).fill(0), [], Array(8).fill(0), []]);
  });

  describe.each([
    [2, 11, 7],
    [2, 5, 24],
    [3, 70, 100],
    [1, 1, 72],
    [2, 6, 1152],
    [1, 3, 4097],
    [1, 1500, 40], // tokens that several blocks share
    [2, 4500, 3],
  ])('at [%i, %i, %i]', (batch, tokens, width) => {
    const shape = [batch, tokens, width];
    const samples = {
      gate: sample([batch, width], 1),
      z: sample(shape, 2),
      tgate: sample([batch, width], 3),
      tz: sample(shape, 4),
      g: sample(shape, 5),
      h: sample(shape, 6),
    };
    type Operands = Record<keyof typeof samples, Tensor>;
    it.each(floatingDTypes)('pulls cotangents of value and tangent back in %s', (dtype) => {
      const upload = ({ shape, values }: Sample) => tensor(Float64Array.from(values), { shape, dtype });
      const t = Object.fromEntries(Object.entries(samples).map(([k, v]) => [k, upload(v)])) as Operands;
      const at = Object.fromEntries(Object.entries(t).map(([k, v]) => [k, Float64Array.from(v.dataSync())]));
      const { gate, z, tgate, tz, g, h } = at as Record<keyof typeof samples, Float64Array>;
      const expected = [gate.map(() => 0), z.map(() => 0), gate.map(() => 0), z.map(() => 0)];
      for (let i = 0; i < z.length; i++) {
        const j = Math.floor(i / (tokens * width)) * width + (i % width);
        expected[0]![j]! += g[i]! * z[i]! + h[i]! * tz[i]!;
        expected[1]![i] = g[i]! * gate[j]! + h[i]! * tgate[j]!;
        expected[2]![j]! += h[i]! * z[i]!;
        expected[3]![i] = h[i]! * gate[j]!;
      }
      const run = () =>
        wrap(
          native.gatedResidualJvpVjp(
            t.gate._handle,
            t.z._handle,
            t.tgate._handle,
            t.tz._handle,
            t.g._handle,
            t.h._handle,
            true,
            true,
            true,
            true,
          ),
        ).map((y) => y!.dataSync());
      const got = run();
      for (const [i, values] of got.entries()) {
        expect(relativeError(values, expected[i]!)).toBeLessThan(tolerances[dtype]);
      }
      // the same bits on every run
      for (const [i, values] of run().entries()) expect(relativeError(values, got[i]!)).toBe(0);
    });
  });

  it.each(floatingDTypes)('takes what is absent for zero and leaves out what is not needed, in %s', (dtype) => {
    const shape = [2, 5, 9];
    const upload = (of: number[], seed: number) =>
      tensor(Float64Array.from(sample(of, seed).values), { shape: of, dtype });
    const none = (of: number[]) => zeros(of, { dtype });
    const [gate, z, tgate, tz] = [upload([2, 9], 1), upload(shape, 2), upload([2, 9], 3), upload(shape, 4)];
    const [g, h] = [upload(shape, 5), upload(shape, 6)];
    for (let present = 0; present < 16; present++) {
      const has = [1, 2, 4, 8].map((bit) => (present & bit) !== 0);
      const optional = [tgate, tz, g, h] as const;
      const given = optional.map((t, i) => (has[i] ? t : null));
      const filled = optional.map((t, i) => (has[i] ? t : none([...t.shape])));
      const call = (of: (Tensor | null)[], needs: boolean[]) => {
        const [a, b, c, d] = of.map(handle);
        const [p, q, r, s] = needs as [boolean, boolean, boolean, boolean];
        return wrap(native.gatedResidualJvpVjp(gate._handle, z._handle, a!, b!, c!, d!, p, q, r, s));
      };
      if (has[2] || has[3]) {
        const expected = call(filled, [true, true, true, true]).map((t) => t!.dataSync());
        for (let needed = 1; needed < 16; needed++) {
          const needs = [1, 2, 4, 8].map((bit) => (needed & bit) !== 0);
          const got = call(given, needs);
          expect(got.map((t) => t !== null)).toEqual(needs);
          for (const [i, t] of got.entries()) if (t) expect(relativeError(t.dataSync(), expected[i]!)).toBe(0);
        }
      }
      // The tangent's: here the third is that of x.
      const forward = (tx: Tensor | null, of: (Tensor | null)[]) =>
        wrap(
          native.gatedResidualJvp(g._handle, gate._handle, z._handle, handle(tx), handle(of[0]!), handle(of[1]!)),
        ).map((t) => t!.dataSync());
      const expected = forward(filled[3]!, filled);
      for (const [i, values] of forward(given[3]!, given).entries()) {
        expect(relativeError(values, expected[i]!)).toBe(0);
      }
    }
  });

  it('has third derivatives, by reverse of reverse and reverse of forward', () => {
    const samples = [sample([2, 3, 4], 19), sample([2, 4], 20), sample([2, 3, 4], 21)];
    // Its square takes derivatives on through it.
    const f = (...[x, gate, z]: Tensor[]) => {
      const y = gatedResidual(x!, gate!, z!);
      return y.mul(y.add(0.3)).sum();
    };
    const directions = samples.map(({ shape }, i) =>
      tensor(Float64Array.from(sample(shape, 30 + i).values), { shape: [...shape] }),
    );
    const reversed = (...at: Tensor[]) => grad(f, { argnums: [0, 1, 2] })(...at) as Tensor[];
    const pushed = (...at: Tensor[]) =>
      grad((...x: Tensor[]) => jvp(f, x, directions)[1], { argnums: [0, 1, 2] })(...at) as Tensor[];
    for (const second of [reversed, pushed]) checkOp(second, samples, { dtypes: ['float64'], tolerance: 1e-5 });
  });

  it('refuses a gate of another width', () => {
    expect(() => gatedResidual(ones([2, 3, 4]), ones([2, 3]), ones([2, 3, 4]))).toThrow(
      /gatedResidual: gate must have shape \[2, 4\]/,
    );
  });
});
