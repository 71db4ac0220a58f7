// A transformer block with adaLN-zero and its tangent along tokens and condition, alone and followed by the backward of both to
// inputs, tangents and weights; beside PyTorch, JAX and a graph of ONNX.
import { functionalCall, jvp, nn, randn, type Tensor } from '../../lib';
import { blockGraph } from '../baselines/onnxBlock';
import { inJax, inPyTorch, type Peers } from '../baselines/peers';
import type { Group } from '../cpu';
import { gradientsBehind } from '../support/gradients';

interface Size {
  batch: number;
  tokens: number;
  width: number;
  heads: number;
}

const sizes: readonly Size[] = [{ batch: 8, tokens: 256, width: 384, heads: 6 }];

/** Products only: of a linear layer two with the tangent and four backward; of attention six and fifteen. */
function flopsOf({ batch, tokens, width }: Size): { forward: number; both: number } {
  const linear = 2 * batch * tokens * 12 * width * width + 2 * batch * 6 * width * width;
  const product = 2 * batch * tokens * tokens * width;
  return { forward: 2 * linear + 6 * product, both: 6 * linear + 21 * product };
}

export async function* groups(peers: Peers, shapes = sizes): AsyncIterable<Group> {
  for (const size of shapes) {
    const { batch, tokens, width, heads } = size;
    const block = new nn.DiTBlock(width, heads);
    // The zero start of the gates would hide most of the block from the comparison.
    const weights = new Map(
      [...block.namedParameters()].map(([name, p]) => [name, /adaLN|bias/.test(name) ? randn(p.shape).mul(0.1) : p]),
    );
    const [x, tx, g, h] = ['x', 'tx', 'g', 'h'].map(() => randn([batch, tokens, width])) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const [c, tc] = [randn([batch, width]), randn([batch, width])];
    const leaves = new Map([...weights, ...Object.entries({ x, c, tx, tc })]);
    const inputs = new Map([...leaves, ...Object.entries({ g, h })]);
    const names = [...leaves.keys()];
    const withTangent = (...values: Tensor[]): Tensor[] => {
      const given = new Map(names.map((name, i) => [name, values[i]!]));
      const along = (a: Tensor, b: Tensor) => block.forward(a, b);
      const p = new Map([...weights.keys()].map((name) => [name, given.get(name)!]));
      return functionalCall(block, p, () =>
        jvp(along, [given.get('x')!, given.get('c')!], [given.get('tx')!, given.get('tc')!]),
      ) as Tensor[];
    };
    const forward = () => withTangent(...leaves.values());
    const both = () => gradientsBehind(withTangent, [...leaves.values()], [g, h]);
    const [y, ty] = forward() as [Tensor, Tensor];
    const gradients = both();
    const flops = flopsOf(size);
    const [alone, followed] = ['with tangent', 'with tangent, then backward of both'];
    const rows = (backward: boolean) => [
      ...inPyTorch('block', { heads, backward }),
      inJax('block', { heads, backward }),
    ];
    const graph = (backward: boolean) => () =>
      blockGraph(size, new Map([...weights].map(([name, p]) => [name, p.shape])), backward);
    const values = new Map(Object.entries({ y, ty }));
    const named = new Map(names.map((name, i) => [`g${name}`, gradients[i]!]));
    const [f, b] = [
      { peerOf: alone, flops: flops.forward },
      { peerOf: followed, flops: flops.both },
    ];
    yield {
      title: `adaLN block, width ${width}, ${heads} heads, S ${tokens}, batch ${batch}`,
      subjects: [
        { name: alone, run: forward, flops: f.flops },
        ...(await peers.python(f, rows(false), leaves, values)),
        ...(await peers.onnx(f, graph(false), leaves, values)),
        { name: followed, run: both, flops: b.flops },
        ...(await peers.python(b, rows(true), inputs, named)),
        ...(await peers.onnx(b, graph(true), inputs, named)),
      ],
      done: () => peers.clear(),
    };
  }
}
