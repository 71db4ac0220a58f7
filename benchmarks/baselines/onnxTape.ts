// Reverse mode over an ONNX graph under construction: each operation also notes the nodes of its pullback. What is written
// with its tangent is so followed by the backward of both.
import { OnnxGraph } from './onnxModel';

export interface Value {
  name: string;
  shape: readonly number[];
}

type Pullback = (g: (Value | undefined)[]) => [of: Value, cotangent: Value][];

export class OnnxTape {
  readonly graph = new OnnxGraph();
  private readonly entries: { outputs: Value[]; pull: Pullback }[] = [];
  private recording = true;

  input(name: string, shape: readonly number[]): Value {
    return { name: this.graph.input(name, shape), shape };
  }

  scalar(value: number): Value {
    return { name: this.graph.scalar(value), shape: [] };
  }

  add(a: Value, b: Value): Value {
    return this.binary('Add', a, b, (g) => [g, g]);
  }

  sub(a: Value, b: Value): Value {
    return this.binary('Sub', a, b, (g) => [g, this.mul(g, this.scalar(-1))]);
  }

  mul(a: Value, b: Value): Value {
    return this.binary('Mul', a, b, (g) => [this.mul(g, b), this.mul(g, a)]);
  }

  /** Of matrices, or of as many of both. */
  matmul(a: Value, b: Value): Value {
    return this.one('MatMul', [a, b], [...a.shape.slice(0, -1), b.shape.at(-1)!], {}, (g) => [
      [a, this.matmul(g, this.swapped(b))],
      [b, this.matmul(this.swapped(a), g)],
    ]);
  }

  transpose(x: Value, perm: readonly number[]): Value {
    const shape = perm.map((i) => x.shape[i]!);
    const back = perm.map((_, i) => perm.indexOf(i));
    return this.one('Transpose', [x], shape, { perm }, (g) => [[x, this.transpose(g, back)]]);
  }

  /** The last two axes. */
  swapped(x: Value): Value {
    const axes = x.shape.map((_, i) => i);
    return this.transpose(x, [...axes.slice(0, -2), axes.at(-1)!, axes.at(-2)!]);
  }

  reshape(x: Value, shape: readonly number[]): Value {
    const to = { name: this.graph.integers(shape), shape: [shape.length] };
    return this.one('Reshape', [x, to], shape, {}, (g) => [[x, this.reshape(g, x.shape)]]);
  }

  softmax(x: Value): Value {
    const y: Value = this.one('Softmax', [x], x.shape, { axis: x.shape.length - 1 }, (g) => [
      [x, this.mul(y, this.sub(g, this.rowSum(this.mul(g, y))))],
    ]);
    return y;
  }

  /** Over the last axis, which stays. */
  rowSum(x: Value): Value {
    const axis = { name: this.graph.integers([-1]), shape: [1] };
    return this.one('ReduceSum', [x, axis], [...x.shape.slice(0, -1), 1], { keepdims: 1 }, (g) => [
      [x, this.expand(g, x.shape)],
    ]);
  }

  tanh(x: Value): Value {
    const y: Value = this.one('Tanh', [x], x.shape, {}, (g) => [
      [x, this.mul(g, this.sub(this.scalar(1), this.mul(y, y)))],
    ]);
    return y;
  }

  /** 1 / √x */
  rsqrt(x: Value): Value {
    const root = this.quietly(() => this.one('Sqrt', [x], x.shape, {}, () => []));
    const y: Value = this.one('Reciprocal', [root], x.shape, {}, (g) => [
      [x, this.mul(g, this.mul(this.scalar(-0.5), this.mul(y, this.mul(y, y))))],
    ]);
    return y;
  }

  /** Parts of the same size, all of which are to be used. */
  split(x: Value, count: number, axis: number): Value[] {
    const size = x.shape[axis]! / count;
    const shape = x.shape.map((n, i) => (i === axis ? size : n));
    const outputs = Array.from({ length: count }, (_, i) => {
      const bounds = [[i * size], [(i + 1) * size], [axis]].map((values) => this.graph.integers(values));
      return { name: this.graph.node('Slice', [x.name, ...bounds]), shape };
    });
    this.note(outputs, (gs) => {
      const joined = this.graph.node(
        'Concat',
        gs.map((g) => g!.name),
        { axis },
      );
      return [[x, { name: joined, shape: x.shape }]];
    });
    return outputs;
  }

  /** The cotangents of `sources` by those of some results. */
  backward(seeds: readonly (readonly [of: Value, cotangent: Value])[], sources: readonly Value[]): Value[] {
    return this.quietly(() => {
      const gathered = new Map<string, Value>();
      const give = (of: Value, g: Value) => {
        const before = gathered.get(of.name);
        gathered.set(of.name, before ? this.add(before, g) : g);
      };
      for (const [of, g] of seeds) give(of, g);
      for (const { outputs, pull } of this.entries.toReversed()) {
        const gs = outputs.map(({ name }) => gathered.get(name));
        if (gs.some((g) => g)) for (const [of, g] of pull(gs)) give(of, g);
      }
      return sources.map(({ name }) => gathered.get(name)!);
    });
  }

  private binary(op: string, a: Value, b: Value, pull: (g: Value) => [Value, Value]): Value {
    const rank = Math.max(a.shape.length, b.shape.length);
    const sized = (x: Value, i: number) => x.shape[i - rank + x.shape.length] ?? 1;
    const shape = Array.from({ length: rank }, (_, i) => Math.max(sized(a, i), sized(b, i)));
    return this.one(op, [a, b], shape, {}, (g) => {
      const [ga, gb] = pull(g);
      return [
        ...(a.shape.length > 0 ? [[a, this.sumTo(ga, a.shape)] as [Value, Value]] : []),
        ...(b.shape.length > 0 ? [[b, this.sumTo(gb, b.shape)] as [Value, Value]] : []),
      ];
    });
  }

  /** Over the axes along which `shape` was repeated. */
  private sumTo(x: Value, shape: readonly number[]): Value {
    const leading = x.shape.length - shape.length;
    const axes = x.shape.map((_, i) => i).filter((i) => i < leading || (shape[i - leading] === 1 && x.shape[i] !== 1));
    if (axes.length === 0) return x;
    const summed = this.graph.node('ReduceSum', [x.name, this.graph.integers(axes)], { keepdims: 1 });
    const kept = { name: summed, shape: x.shape.map((n, i) => (axes.includes(i) ? 1 : n)) };
    return leading > 0 ? this.reshape(kept, shape) : kept;
  }

  private expand(x: Value, shape: readonly number[]): Value {
    return { name: this.graph.node('Expand', [x.name, this.graph.integers(shape)]), shape };
  }

  private one(
    op: string,
    inputs: readonly Value[],
    shape: readonly number[],
    attributes: Record<string, number | readonly number[]>,
    pull: (g: Value) => [Value, Value][],
  ): Value {
    const names = inputs.map(({ name }) => name);
    const output = { name: this.graph.node(op, names, attributes), shape };
    this.note([output], ([g]) => pull(g!));
    return output;
  }

  private note(outputs: Value[], pull: Pullback): void {
    if (this.recording) this.entries.push({ outputs, pull });
  }

  private quietly<R>(f: () => R): R {
    const before = this.recording;
    this.recording = false;
    try {
      return f();
    } finally {
      this.recording = before;
    }
  }
}
