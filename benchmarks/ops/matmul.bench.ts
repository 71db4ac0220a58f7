// Products at the sizes of the digits example (512 tokens of 96) and of a width-256 transformer (64 × 49 tokens).
import { linear, matmul, randn } from '../../lib';
import type { Group } from '../cpu';

export function* groups(): Iterable<Group> {
  const sizes: [rows: number, inputs: number, outputs: number][] = [
    [512, 96, 288],
    [512, 96, 384],
    [512, 384, 96],
    [3136, 256, 768],
    [3136, 256, 1024],
    [3136, 1024, 256],
  ];
  yield {
    title: 'linear, float32',
    subjects: sizes.map(([rows, inputs, outputs]) => {
      const [x, weight, bias] = [randn([rows, inputs]), randn([outputs, inputs]), randn([outputs])];
      return {
        name: `${rows} × ${inputs} → ${outputs}`,
        run: () => linear(x, weight, bias),
        flops: 2 * rows * inputs * outputs,
        bytes: 4 * (rows * (inputs + outputs) + outputs * (inputs + 1)),
      };
    }),
  };
  yield {
    title: 'gradient of the weight, float32',
    subjects: sizes.map(([rows, inputs, outputs]) => {
      const [x, g] = [randn([rows, inputs]), randn([rows, outputs])];
      return {
        name: `${outputs} × ${inputs} over ${rows}`,
        run: () => matmul(g, x, { transposeA: true }),
        flops: 2 * rows * inputs * outputs,
        bytes: 4 * (rows * (inputs + outputs) + outputs * inputs),
      };
    }),
  };
}
