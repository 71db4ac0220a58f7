// `node -r ./scripts/typescript.cjs test/support/checkpointWriter.ts file`: replaces a checkpoint over and over until it
// is killed, and prints the step of each that is done. Every tensor of a checkpoint holds its step, so that a reader can
// tell a mixture.
import { full, saveCheckpoint } from '../../lib';

async function main(path: string): Promise<void> {
  for (let step = 0; ; step++) {
    const weights = full([300, 1000 + (step % 7)], step);
    const average = full([50_001], step, { dtype: 'float64' });
    await saveCheckpoint(path, {
      tensors: { params: new Map([['weights', weights]]), ema: new Map([['average', average]]) },
      state: { step },
    });
    weights.dispose();
    average.dispose();
    console.log(step);
  }
}

main(process.argv[2]!);
