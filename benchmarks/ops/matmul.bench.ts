// Linear layers, and the gradients of their weights, at the sizes of the digits example (512 tokens of 96) and of a width-256
// transformer (64 × 49 tokens). Bytes: operands read once, the result written once.
import { linear, matmul, randn, slice, type Tensor } from '../../lib';
import { itemSize } from '../../lib/dtype';
import type { Group } from '../cpu';
import { presets, rowsOnCpu } from '../presets';
import { errorBeside, toFloat64 } from '../support/error';
import type { Subject } from '../support/measure';
import type { Setting, Takes } from '../support/setting';

export const takes: Takes = { dtype: true, shapes: ['dit-xl-2', 'wan', 'digits'] };

interface Size {
  rows: number;
  inputs: number;
  outputs: number;
  /** 'n of m' where a preset's rows were capped. */
  text: string;
}

const own: Size[] = [
  [512, 96, 288],
  [512, 96, 384],
  [512, 384, 96],
  [3136, 256, 768],
  [3136, 256, 1024],
  [3136, 1024, 256],
].map(([rows, inputs, outputs]) => ({ rows: rows!, inputs: inputs!, outputs: outputs!, text: `${rows}` }));

function sizesOf({ shapes }: Setting): Size[] {
  if (!shapes) return own;
  const preset = presets[shapes];
  const found = rowsOnCpu(shapes);
  if (!found || !('linear' in preset)) throw new Error(`bench: ${shapes} has no linear layers`);
  return preset.linear.map(([inputs, outputs]) => ({ rows: found.rows, text: found.text, inputs, outputs }));
}

// Rows of a product do not know each other; these stand for all.
const checked = 64;
const firstRows = (x: Tensor) => slice(x, [0, 0], [Math.min(checked, x.shape[0]!), x.shape[1]!]);
const firstColumns = (x: Tensor) => slice(x, [0, 0], [x.shape[0]!, Math.min(checked, x.shape[1]!)]);

function layer({ rows, inputs, outputs, text }: Size, dtype: Setting['dtype']): Subject {
  const shapes = [[rows, inputs], [outputs, inputs], [outputs]];
  const [x, weight, bias] = shapes.map((shape) => randn(shape, { dtype })) as [Tensor, Tensor, Tensor];
  return {
    name: `${text} × ${inputs} → ${outputs}`,
    run: () => linear(x, weight, bias),
    flops: 2 * rows * inputs * outputs,
    bytes: itemSize[dtype] * (rows * (inputs + outputs) + outputs * (inputs + 1)),
    error: errorBeside(
      () => [firstRows(linear(x, weight, bias))],
      () => [linear(toFloat64(firstRows(x)), toFloat64(weight), toFloat64(bias))],
    ),
  };
}

function weightGradient({ rows, inputs, outputs, text }: Size, dtype: Setting['dtype']): Subject {
  const [x, g] = [randn([rows, inputs], { dtype }), randn([rows, outputs], { dtype })];
  return {
    name: `${outputs} × ${inputs} over ${text}`,
    run: () => matmul(g, x, { transposeA: true }),
    flops: 2 * rows * inputs * outputs,
    bytes: itemSize[dtype] * (rows * (inputs + outputs) + outputs * inputs),
    error: errorBeside(
      () => [firstRows(matmul(g, x, { transposeA: true }))],
      () => [matmul(toFloat64(firstColumns(g)), toFloat64(x), { transposeA: true })],
    ),
  };
}

export function* groups(setting: Setting): Iterable<Group> {
  const { dtype } = setting;
  const sizes = sizesOf(setting);
  yield { title: `linear, ${dtype}`, subjects: sizes.map((size) => layer(size, dtype)) };
  yield { title: `gradient of the weight, ${dtype}`, subjects: sizes.map((size) => weightGradient(size, dtype)) };
}
