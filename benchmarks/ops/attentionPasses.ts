// The passes of attention by themselves: the backward ones on what a forward pass left, without a tape.
import { attention, type DType, randn, type Tensor, Tensor as TensorClass } from '../../lib';
import { native } from '../../lib/native';
import { attentionSettings } from '../../lib/ops/attention';
import type { AttentionSize } from '../presets';

type Maybe = Tensor | null;

export interface Passes {
  inputs: Tensor[];
  value(): Maybe[];
  withTangent(): Maybe[];
  backward(): Maybe[];
  backwardOfBoth(): Maybe[];
}

const wrap = (handles: readonly (number | null)[]): Maybe[] =>
  handles.map((x) => (x === null ? null : new TensorClass(x)));
const at = (x: Maybe | undefined) => x?._handle ?? null;

/** Over q, k, v, tq, tk, tv and the cotangents g and h of value and tangent, [B, H, S, D] each. */
export function passesOver([q, k, v, tq, tk, tv, g, h]: readonly Tensor[]): Passes {
  const settings = attentionSettings([], {
    causal: false,
    scale: 1 / Math.sqrt(q!.shape.at(-1)!),
    layout: 'BHSD',
    normalize: false,
    eps: 1e-6,
    centerKeys: false,
    deterministic: true,
  });
  const handle = (x: Tensor | undefined) => x!._handle;
  const forward = (tangents: readonly Maybe[]) => {
    const [a, b, c] = tangents.map(at) as [number | null, number | null, number | null];
    return wrap(native.attentionJvp(handle(q), handle(k), handle(v), a, b, c, ...settings));
  };
  const [o, to, lse, mu] = forward([tq!, tk!, tv!]);
  const back = (withTangents: boolean) => {
    const [a, b, c, ofTangent, mean, ht] = [tq, tk, tv, to, mu, h].map((x) => (withTangents ? at(x) : null));
    return wrap(
      native.attentionJvpVjp(
        handle(q),
        handle(k),
        handle(v),
        a!,
        b!,
        c!,
        handle(o!),
        ofTangent!,
        handle(lse!),
        mean!,
        handle(g),
        ht!,
        ...settings,
        true,
        withTangents ? [1, 1, 1, 1, 1, 1, 0, 0] : [1, 1, 1, 0, 0, 0, 0, 0],
      ),
    );
  };
  return {
    inputs: [q!, k!, v!, tq!, tk!, tv!, g!, h!],
    value: () => [attention(q!, k!, v!)],
    withTangent: () => forward([tq!, tk!, tv!]),
    backward: () => back(false),
    backwardOfBoth: () => back(true),
  };
}

export function passesOf({ batch, heads, tokens, dim }: AttentionSize, dtype: DType): Passes {
  return passesOver(Array.from({ length: 8 }, () => randn([batch, heads, tokens, dim], { dtype })));
}
