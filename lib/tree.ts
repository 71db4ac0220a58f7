// Nestings of tensors: a tensor, or arrays, maps and plain objects of them. Anything else is a leaf that is not touched.
import { isTensor, type Tensor } from './tensor';

/** A tensor or any nesting of arrays, maps and plain objects of tensors. */
export type TensorTree =
  | Tensor
  | readonly TensorTree[]
  | ReadonlyMap<string, TensorTree>
  | { [key: string]: TensorTree };

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The tensors of a nesting, in a fixed order. */
export function* leaves(tree: unknown): Generator<Tensor> {
  if (isTensor(tree)) yield tree;
  else if (Array.isArray(tree)) for (const item of tree) yield* leaves(item);
  else if (tree instanceof Map) for (const item of tree.values()) yield* leaves(item);
  else if (isPlainObject(tree)) for (const item of Object.values(tree)) yield* leaves(item);
}

/** The same nesting with every tensor replaced by `fn` of it. */
export function mapTree<T>(tree: T, fn: (tensor: Tensor) => Tensor | null): T {
  if (isTensor(tree)) return fn(tree) as T;
  if (Array.isArray(tree)) return tree.map((item) => mapTree(item, fn)) as T;
  if (tree instanceof Map) return new Map([...tree].map(([key, item]) => [key, mapTree(item, fn)])) as T;
  if (isPlainObject(tree)) {
    return Object.fromEntries(Object.entries(tree).map(([key, item]) => [key, mapTree(item, fn)])) as T;
  }
  return tree;
}
