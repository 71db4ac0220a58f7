// Which rows of the data a step sees.
import { tensor } from '../create';
import { type Generator, randint } from '../random';
import type { Tensor } from '../tensor';

/** Draws rows with replacement; in groups, the rows after a group's first are of its class. */
export class Batches {
  private readonly ofClass: Map<number, number[]> | null;
  private readonly labels: ArrayLike<number>;
  private readonly device: string;

  /** @param grouped read the labels, so that groups can be drawn */
  constructor(labels: Tensor, grouped: boolean) {
    this.device = labels.device;
    this.labels = grouped ? (labels.dataSync() as Int32Array) : { length: labels.shape[0]! };
    this.ofClass = grouped ? new Map() : null;
    for (let row = 0; grouped && row < this.labels.length; row++) {
      const label = this.labels[row]!;
      const rows = this.ofClass!.get(label);
      if (rows) rows.push(row);
      else this.ofClass!.set(label, [row]);
    }
  }

  /** int32 [count], on the device of the labels */
  draw(count: number, group: number, generator: Generator): Tensor {
    const all = this.labels.length;
    const { device } = this;
    if (!this.ofClass || group === 1) return randint(0, all, [count], { generator, device });
    let fellows: readonly number[] = [];
    const rows = generator.uniform(count).map((u, i) => {
      if (i % group !== 0) return fellows[Math.floor(u * fellows.length)]!;
      const first = Math.floor(u * all);
      fellows = this.ofClass!.get(this.labels[first]!)!;
      return first;
    });
    return tensor(Int32Array.from(rows), { device });
  }
}
