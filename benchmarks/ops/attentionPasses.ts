// The passes of attention by themselves: the backward ones on what a forward pass left, without a tape. Convention:
// 12 · Sq · Sk · D · B · H operations forward (6 products), 30 backward (15); 4 and 10 for plain attention. Bytes: every
// tensor of tokens read or written once.
import { attention, type DType, randn, slice, type Tensor, Tensor as TensorClass } from '../../lib';
import { itemSize } from '../../lib/dtype';
import { native } from '../../lib/native';
import { attentionSettings } from '../../lib/ops/attention';
import type { AttentionSize } from '../presets';
import { errorBeside, toFloat64 } from '../support/error';
import type { Subject } from '../support/measure';
import type { Setting } from '../support/setting';

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

// One head in float64 takes seconds beyond this.
const mostTokensChecked = 8192;

/** Each pass as a subject. */
export function attentionSubjects(size: AttentionSize, dtype: Setting['dtype']): Subject[] {
  const { batch, heads, tokens, dim } = size;
  const passes = passesOf(size, dtype);
  const product = 2 * tokens * tokens * dim * batch * heads;
  const bytes = itemSize[dtype] * batch * heads * tokens * dim;
  // Heads do not know each other: the first one stands for all.
  const firstHead = (x: Tensor) => slice(x, [0, 0, 0, 0], [1, 1, tokens, dim]);
  const subject = (
    name: string,
    pass: 'value' | 'withTangent' | 'backward' | 'backwardOfBoth',
    tensors: { products: number; moved: number; results: number },
  ): Subject => ({
    name,
    run: passes[pass],
    flops: tensors.products * product,
    bytes: tensors.moved * bytes,
    ...(tokens > mostTokensChecked
      ? {}
      : {
          error: errorBeside(
            () =>
              passes[pass]()
                .slice(0, tensors.results)
                .map((x) => firstHead(x!)),
            () =>
              passesOver(passes.inputs.map((x) => toFloat64(firstHead(x))))
                [pass]()
                .slice(0, tensors.results),
          ),
        }),
  });
  return [
    subject('attention', 'value', { products: 2, moved: 4, results: 1 }),
    subject('attention with tangent', 'withTangent', { products: 6, moved: 8, results: 2 }),
    subject('backward of attention', 'backward', { products: 5, moved: 8, results: 3 }),
    subject('backward of both', 'backwardOfBoth', { products: 15, moved: 16, results: 6 }),
  ];
}
