// A weightless normalisation followed by adaLN modulation, for both normalisations. Value and tangent, and the backward of
// both, are one pass each.
import { type Apply, defineOp } from '../autograd/op';
import { native } from '../native';
import type { Tensor } from '../tensor';
import { add, mul } from './elementwise';
import { centered, type LayerNormOptions } from './layerNorm';
import {
  defaultEps,
  type Eps,
  type MaybeTensor,
  perToken,
  plus,
  type RmsNormOptions,
  times,
  unit,
  unitVjp,
} from './norm';
import { sum } from './reduce';

type Name = 'rmsNormModulate' | 'layerNormModulate';
type WithNeeds = Eps & { needs: readonly boolean[] };

/** The op `name` with its derivatives. `center` is what the normalisation does before it divides by the root mean square. */
function defineModulate(name: Name, center: (x: Tensor) => Tensor): Apply<Eps> {
  const centerMaybe = (t: MaybeTensor | undefined) => (t ? center(t) : null);

  const op: Apply<Eps> = defineOp<Eps>(name, {
    forward: ([x, shift, scale], { eps }) => native[name](x!, shift!, scale!, eps),
    vjp: ([g], { inputs: [x, , scale], needs, attributes: { eps } }) =>
      jvpVjpOp([x!, scale!, null, null, g!, null], {
        eps,
        needs: [needs[0]!, needs[1]!, needs[2]!, false, false, false],
      }).slice(0, 3),
    jvp: ([x, shift, scale], [tx, tshift, tscale], { eps }) =>
      jvpOp([x!, shift!, scale!, tx!, tshift!, tscale!], { eps }) as [Tensor, Tensor],
  });

  const jvpOp: Apply<Eps> = defineOp<Eps>(`${name}Jvp`, {
    forward: ([x, shift, scale, tx, tshift, tscale], { eps }) =>
      native[`${name}Jvp`](x!, shift!, scale!, tx ?? null, tshift ?? null, tscale ?? null, eps),
    vjp: ([g, h], { inputs: [x, , scale, tx, , tscale], needs, attributes: { eps } }) =>
      jvpVjpOp([x!, scale!, tx!, tscale!, g!, h!], { eps, needs }),
    composition: ([x, shift, scale, tx, tshift, tscale], { eps }) => {
      const [xHat, u] = unit(center(x!), centerMaybe(tx), eps);
      const a = add(perToken(scale!)!, 1);
      return [
        add(mul(xHat, a), perToken(shift!)!),
        plus(plus(times(u, a), times(xHat, perToken(tscale!))), tshift ? add(mul(xHat, 0), perToken(tshift)!) : null),
      ];
    },
  });

  const jvpVjpOp: Apply<WithNeeds> = defineOp<WithNeeds>(`${name}JvpVjp`, {
    forward: ([x, scale, tx, tscale, g, h], { eps, needs }) =>
      native[`${name}JvpVjp`](
        x!,
        scale!,
        tx ?? null,
        tscale ?? null,
        g ?? null,
        h ?? null,
        eps,
        needs[0]!,
        needs[1]!,
        needs[2]!,
        needs[3]!,
        needs[4]!,
        needs[5]!,
      ),
    composition: ([x, scale, tx, tscale, g, h], { eps, needs }) => {
      const a = add(perToken(scale!)!, 1);
      const { gx, gtx, ga, gta } = unitVjp(center(x!), centerMaybe(tx), a, perToken(tscale!), g!, h!, eps);
      const tokens = (t: MaybeTensor | undefined) => (t ? sum(t, 1) : null);
      return [centerMaybe(gx), tokens(g), tokens(ga), centerMaybe(gtx), tokens(h), tokens(gta)].map((t, i) =>
        needs[i] ? t : null,
      );
    },
  });

  return op;
}

const rmsNormModulateOp = defineModulate('rmsNormModulate', (x) => x);
const layerNormModulateOp = defineModulate('layerNormModulate', centered);

/**
 * Weightless {@link rmsNorm} followed by adaLN modulation, in one pass: x̂ ∘ (1 + scale) + shift.
 * x [B, N, D], shift [B, D], scale [B, D] -> [B, N, D]
 */
export function rmsNormModulate(x: Tensor, shift: Tensor, scale: Tensor, options: RmsNormOptions = {}): Tensor {
  return rmsNormModulateOp([x, shift, scale], { eps: options.eps ?? defaultEps })[0]!;
}

/**
 * Weightless {@link layerNorm} followed by adaLN modulation, in one pass: x̂ ∘ (1 + scale) + shift.
 * x [B, N, D], shift [B, D], scale [B, D] -> [B, N, D]
 */
export function layerNormModulate(x: Tensor, shift: Tensor, scale: Tensor, options: LayerNormOptions = {}): Tensor {
  return layerNormModulateOp([x, shift, scale], { eps: options.eps ?? defaultEps })[0]!;
}
