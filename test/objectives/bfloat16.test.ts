// Objectives with a network whose parameters are bfloat16, on every device: on CUDA its attention is the fused kernels'.
import { flowMatchingLoss, functionalCall, type nn, type Tensor, tvmLoss, valueAndGrad } from '../../lib';
import { relativeError } from '../support/checkOp';
import { describeOnDevices } from '../support/devices';
import { makeBatch, makeNet } from '../support/tinyDit';

describeOnDevices('a bfloat16 network', (device) => {
  // Against float64 at the parameters that bfloat16 stores: what is left is the rounding of activations, tangents and
  // gradients, each to 2^-9, which adds up through embeddings, a block, their tangents and the backward of all. Relative
  // L2 errors; the gradients of single parameters are smaller sums, so less of their rounding cancels.
  const allowed = { loss: 0.01, gradients: 0.025, gradient: 0.08 };

  type Batch = ReturnType<typeof makeBatch>;
  type Loss = (net: nn.DiT, teacher: nn.DiT, batch: Batch) => Tensor;
  const run = (loss: Loss, narrow: boolean) => {
    const [net, teacher] = [makeNet('bfloat16'), makeNet('bfloat16', 2)];
    for (const each of [net, teacher]) each.to(narrow ? { device } : { dtype: 'float64' });
    const batch = makeBatch(narrow ? 'float32' : 'float64');
    const there = Object.entries(batch).map(([name, x]) => [name, narrow ? x.to({ device }) : x]);
    const [value, found] = valueAndGrad((params: Map<string, Tensor>) =>
      functionalCall(net, params, () => loss(net, teacher, Object.fromEntries(there) as Batch)),
    )(net.namedParameters());
    return { value, found: found as Map<string, Tensor> };
  };

  it.each([
    ['tvmLoss', (net, teacher, batch) => tvmLoss(net, teacher, batch).loss],
    ['tvmLoss, scaled', (net, teacher, batch) => tvmLoss(net, teacher, batch, { doScaleParam: true }).loss],
    ['flowMatchingLoss', (net, _, batch) => flowMatchingLoss(net, batch).loss],
  ] as [string, Loss][])('has the loss and gradients of float64 to its rounding: %s', (_, loss) => {
    const [wide, narrow] = [run(loss, false), run(loss, true)];
    expect(narrow.value.dtype).toBe('float32');
    expect(Math.abs(narrow.value.itemSync() / wide.value.itemSync() - 1)).toBeLessThan(allowed.loss);
    expect([...narrow.found.keys()]).toEqual([...wide.found.keys()]);
    const [got, exact]: [number[], number[]] = [[], []];
    for (const [name, g] of narrow.found) {
      expect(g.dtype).toBe('bfloat16');
      const [one, exactOne] = [[...g.dataSync()], [...wide.found.get(name)!.dataSync()]];
      expect([name, one.every(Number.isFinite)]).toEqual([name, true]);
      expect(relativeError(one, exactOne)).toBeLessThan(allowed.gradient);
      got.push(...one);
      exact.push(...exactOne);
    }
    expect(relativeError(got, exact)).toBeLessThan(allowed.gradients);
  });
});
