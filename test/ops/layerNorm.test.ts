// Layer normalisation, plain and with adaLN modulation: values in every dtype, derivatives to second order against
// differences, the fused passes against plain ops, and rows whose mean is far from zero, on every device.
import type { Tensor } from '../../lib';
import { centered, layerNormJvp, layerNormJvpVjp } from '../../lib/ops/layerNorm';
import { relativeError, type Sample, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { floatingDTypes, tolerances } from '../support/tolerances';

/** The formula, loop by loop; the variance by the two-pass definition. */
function reference(width: number, eps = 1e-6) {
  return (x: Float64Array, weight?: Float64Array, bias?: Float64Array) => {
    const out = new Float64Array(x.length);
    for (let at = 0; at < x.length; at += width) {
      const row = x.subarray(at, at + width).map((v) => v - x[at]!); // the offset first, or the mean is rounded
      const mean = row.reduce((sum, v) => sum + v, 0) / width;
      const variance = row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / width;
      for (let i = 0; i < width; i++) {
        const unit = (row[i]! - mean) / Math.sqrt(variance + eps);
        out[at + i] = unit * (weight ? weight[i]! : 1) + (bias ? bias[i]! : 0);
      }
    }
    return out;
  };
}

describeOnDevices('layer normalisation', (device) => {
  const { checkOp, jvp, layerNorm, layerNormModulate, ones, rmsNorm, tensor, vjp, zeros } = on(device);
  const wide = ({ values, shape }: Sample) => tensor(Float64Array.from(values), { shape });

  describe('layerNorm', () => {
    it.each([1, 2, 7, 72, 100, 1152, 4097])('has the value and derivatives of its formula at width %i', (width) => {
      const x = sample([3, 5, width], width);
      const [weight, bias] = [sample([width], width + 1), sample([width], width + 2)];
      checkOp((a, b, c) => layerNorm(a!, b!, c!), [x, weight, bias], { reference: reference(width) });
      checkOp((a) => layerNorm(a!), [x], { reference: (a) => reference(width)(a) });
    });

    it('takes a weight or a bias alone', () => {
      const [x, p] = [sample([4, 9], 1), sample([9], 2)];
      checkOp((a, b) => layerNorm(a!, b!), [x, p], { reference: (a, b) => reference(9)(a, b) });
      checkOp((a, b) => layerNorm(a!, null, b!), [x, p], { reference: (a, b) => reference(9)(a, undefined, b) });
    });

    it.each(['float32', 'float64'] as const)('loses nothing to a mean far above the deviations in %s', (dtype) => {
      const width = 1152;
      const far = sample([6, width], 3).values;
      const scale = dtype === 'float32' ? 1e4 : 1e9;
      const x = tensor(
        Float64Array.from(far, (v) => scale + v),
        { shape: [6, width], dtype },
      );
      const expected = reference(width)(Float64Array.from(x.dataSync()));
      expect(relativeError(layerNorm(x).dataSync(), expected)).toBeLessThan(tolerances[dtype]);
      const t = tensor(Float64Array.from(sample([6, width], 4).values), { shape: [6, width], dtype });
      // The derivatives do not see the offset: beside the same rows without it.
      const near = tensor(
        Float64Array.from(x.dataSync(), (v) => v - scale),
        { shape: [6, width], dtype },
      );
      const tangent = (at: Tensor) => jvp((a: Tensor) => layerNorm(a), [at], [t])[1].dataSync();
      const gradient = (at: Tensor) => vjp((a: Tensor) => layerNorm(a), [at])[1](t)[0]!.dataSync();
      expect(relativeError(tangent(x), tangent(near))).toBeLessThan(tolerances[dtype]);
      expect(relativeError(gradient(x), gradient(near))).toBeLessThan(tolerances[dtype]);
    });

    it('gives zero, not NaN, for a row of equal values, and shows a NaN', () => {
      for (const dtype of floatingDTypes) {
        const y = layerNorm(tensor([3, 3, 3, 3, 3, 3, 3], { dtype }));
        expect([...y.dataSync()]).toEqual([0, 0, 0, 0, 0, 0, 0]);
      }
      expect([...layerNorm(tensor([1, Number.NaN, 2])).dataSync()].every(Number.isNaN)).toBe(true);
    });

    it('is the RMS normalisation of what is centred, in value, tangent and the backward of both', () => {
      const [x, tx, g, h] = [1, 2, 3, 4].map((seed) => wide(sample([5, 11], seed))) as [Tensor, Tensor, Tensor, Tensor];
      const [y, ty] = layerNormJvp([x, null, null], [tx, null, null]);
      const [plain, tplain] = jvp((a: Tensor) => rmsNorm(centered(a)), [x], [tx]);
      expect(relativeError(y.dataSync(), plain.dataSync())).toBeLessThan(1e-14);
      expect(relativeError(ty.dataSync(), tplain.dataSync())).toBeLessThan(1e-14);
      const needs = [true, false, false, true, false, false];
      const [gx, , , gtx] = layerNormJvpVjp([x, null, tx, null], g, h, needs);
      const [, pull] = vjp((a: Tensor, ta: Tensor) => jvp((b: Tensor) => rmsNorm(centered(b)), [a], [ta]), [x, tx]);
      const [ex, etx] = pull([g, h]) as [Tensor, Tensor];
      expect(relativeError(gx!.dataSync(), ex.dataSync())).toBeLessThan(1e-13);
      expect(relativeError(gtx!.dataSync(), etx.dataSync())).toBeLessThan(1e-13);
    });

    it('handles no rows, one, and absent tangents', () => {
      expect(layerNorm(zeros([0, 8])).shape).toEqual([0, 8]);
      checkOp((a) => layerNorm(a!), [sample([9], 4)]);
      const [x, weight, bias] = [wide(sample([6, 10], 5)), ones([10], { dtype: 'float64' }), wide(sample([10], 6))];
      const [y, ty] = layerNormJvp([x, weight, bias], [null, null, null]);
      expect([...y.dataSync()]).toEqual([...layerNorm(x, weight, bias).dataSync()]);
      expect(ty.dataSync().every((v) => v === 0)).toBe(true);
    });

    it('sums parameter gradients to the same bits on every run', () => {
      const f32 = (seed: number) => tensor(Float32Array.from(sample([4000, 33], seed).values), { shape: [4000, 33] });
      const [x, g, w] = [f32(1), f32(2), ones([33])];
      const needs = [true, true, true, true, true, true];
      const once = () => layerNormJvpVjp([x, w, g, null], g, x, needs).map((t) => [...t!.dataSync()]);
      expect(once()).toEqual(once());
    });

    it.each([
      [
        'a weight of another width',
        () => layerNorm(ones([2, 3]), ones([4])),
        /layerNorm: weight must have shape \[3\]/,
      ],
      [
        'a bias of another width',
        () => layerNorm(ones([2, 3]), null, ones([2])),
        /layerNorm: bias must have shape \[3\]/,
      ],
      [
        'a bias of another dtype',
        () => layerNorm(ones([2, 3]), null, ones([3], { dtype: 'float64' })),
        /layerNorm: bias must be float32/,
      ],
      [
        'a tangent of no weight',
        () => layerNormJvp([ones([2, 3]), null, null], [null, ones([3]), null]),
        /layerNormJvp: tweight must be absent where weight is/,
      ],
      ['integers', () => layerNorm(ones([2, 3], { dtype: 'int32' })), /layerNorm: x must be a floating type/],
      [
        'an eps of 0',
        () => layerNorm(ones([2, 3]), null, null, { eps: 0 }),
        /layerNorm: eps must be a positive finite/,
      ],
      ['a scalar', () => layerNorm(tensor(1)), /layerNorm: x must have rank at least 1/],
      [
        'a shift of another batch',
        () => layerNormModulate(ones([2, 3, 4]), ones([1, 4]), ones([2, 4])),
        /layerNormModulate: shift must have shape \[2, 4\]/,
      ],
    ])('refuses %s', (_, call, message) => {
      expect(call).toThrow(message);
    });
  });

  describe('layerNormModulate', () => {
    it.each([
      [2, 5, 7],
      [3, 1, 24],
      [1, 70, 96],
    ])('agrees with its parts at [%i, %i, %i]', (batch, tokens, width) => {
      const samples = [sample([batch, tokens, width], 1), sample([batch, width], 2), sample([batch, width], 3)];
      checkOp((x, shift, scale) => layerNormModulate(x!, shift!, scale!), samples);
      const [x, shift, scale] = samples.map(wide) as [Tensor, Tensor, Tensor];
      const plain = layerNorm(x)
        .mul(scale.reshape([batch, 1, width]).add(1))
        .add(shift.reshape([batch, 1, width]));
      expect(relativeError(layerNormModulate(x, shift, scale).dataSync(), plain.dataSync())).toBeLessThan(1e-14);
    });
  });
});
