// Writes ONNX models by hand: as much of the format (a protocol buffer) as graphs of float32 tensors with fixed shapes need.

type Field = Buffer;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.from(bytes);
}

const integer = (field: number, value: number): Field => Buffer.concat([varint(field * 8), varint(value)]);
const bytes = (field: number, value: Buffer): Field =>
  Buffer.concat([varint(field * 8 + 2), varint(value.length), value]);
const text = (field: number, value: string): Field => bytes(field, Buffer.from(value));
const message = (field: number, ...parts: Field[]): Field => bytes(field, Buffer.concat(parts));

const float32 = 1;
const int64 = 7;
const attributeTypes = { integer: 2, integers: 7 } as const;

function valueInfo(field: number, name: string, shape: readonly number[]): Field {
  const dims = shape.map((size) => message(1, integer(1, size)));
  return message(field, text(1, name), message(2, message(1, integer(1, float32), message(2, ...dims))));
}

/** A graph under construction: every method adds a node and gives the name of its result. */
export class OnnxGraph {
  private readonly parts: Field[] = [];
  private readonly declared: Field[] = [];
  private count = 0;

  input(name: string, shape: readonly number[]): string {
    this.declared.push(valueInfo(11, name, shape));
    return name;
  }

  output(name: string, value: string, shape: readonly number[]): void {
    this.parts.push(message(1, text(1, value), text(2, name), text(4, 'Identity')));
    this.declared.push(valueInfo(12, name, shape));
  }

  scalar(value: number): string {
    const name = this.fresh();
    const raw = Buffer.alloc(4);
    raw.writeFloatLE(value);
    this.declared.push(message(5, integer(2, float32), text(8, name), bytes(9, raw)));
    return name;
  }

  node(op: string, inputs: readonly string[], attributes: Record<string, number | readonly number[]> = {}): string {
    const name = this.fresh();
    const encoded = Object.entries(attributes).map(([key, value]) =>
      typeof value === 'number'
        ? message(5, text(1, key), integer(3, value), integer(20, attributeTypes.integer))
        : message(5, text(1, key), ...value.map((i) => integer(8, i)), integer(20, attributeTypes.integers)),
    );
    this.parts.push(message(1, ...inputs.map((input) => text(1, input)), text(2, name), text(4, op), ...encoded));
    return name;
  }

  /** Sum over the last axis, which stays with size 1. */
  rowSum(value: string): string {
    return this.node('ReduceSum', [value, this.integers([-1])], { keepdims: 1 });
  }

  build(): Buffer {
    const graph = message(7, ...this.parts, text(2, 'graph'), ...this.declared);
    return Buffer.concat([integer(1, 8), graph, message(8, text(1, ''), integer(2, 17))]);
  }

  /** A constant of as many int64. */
  integers(values: readonly number[]): string {
    const name = this.fresh();
    const raw = Buffer.alloc(8 * values.length);
    for (const [i, value] of values.entries()) raw.writeBigInt64LE(BigInt(value), 8 * i);
    this.declared.push(message(5, integer(1, values.length), integer(2, int64), text(8, name), bytes(9, raw)));
    return name;
  }

  private fresh(): string {
    return `v${this.count++}`;
  }
}
