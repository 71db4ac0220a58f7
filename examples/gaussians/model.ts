// A flow map of one's own: any Module whose forward takes x, t and s will do.
import { concat, type Generator, nn, rmsNorm, silu, type Tensor } from 'flowmap';

/** x + fc2(silu(fc1(norm x + condition))). [B, D] -> [B, D] */
class ResidualLayer extends nn.Module {
  private readonly fc1: nn.Linear;
  private readonly fc2: nn.Linear;

  constructor(width: number, generator: Generator) {
    super();
    this.fc1 = this.child('fc1', new nn.Linear(2 * width, width, { generator }));
    this.fc2 = this.child('fc2', new nn.Linear(width, width, { generator }));
  }

  forward(x: Tensor, condition: Tensor): Tensor {
    return x.add(this.fc2.forward(silu(this.fc1.forward(concat([rmsNorm(x, null), condition], 1)))));
  }
}

/** F(x, t, s) for points of the plane: x [B, 2], t [B], s [B] -> [B, 2]. It embeds t and t − s. */
export class PointFlowMap extends nn.Module {
  private readonly tEmbedder: nn.TimestepEmbedding;
  private readonly sEmbedder: nn.TimestepEmbedding;
  private readonly first: nn.Linear;
  private readonly layers: ResidualLayer[];
  private readonly last: nn.Linear;

  constructor(width: number, depth: number, generator: Generator) {
    super();
    const time = { frequencies: 32, range: [10, 0.1] as const, std: 0.1, generator };
    this.tEmbedder = this.child('t_embedder', new nn.TimestepEmbedding(width, time));
    this.sEmbedder = this.child('s_embedder', new nn.TimestepEmbedding(width, time));
    this.first = this.child('first', new nn.Linear(2, width, { generator }));
    this.layers = Array.from({ length: depth }, (_, i) =>
      this.child(`layers.${i}`, new ResidualLayer(width, generator)),
    );
    this.last = this.child('last', new nn.Linear(width, 2, { generator }));
  }

  forward(x: Tensor, t: Tensor, s: Tensor): Tensor {
    const condition = silu(this.tEmbedder.forward(t).add(this.sEmbedder.forward(t.sub(s))));
    let h = this.first.forward(x);
    for (const layer of this.layers) h = layer.forward(h, condition);
    return this.last.forward(silu(h));
  }
}
