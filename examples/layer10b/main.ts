// One layer of a 10B-class transformer, as it is trained: forward with tangent, backward of both, AdamW, over rising numbers
// of tokens. Small on a CPU, full on a GPU:
// node -r ./scripts/typescript.cjs examples/layer10b/main.ts [--model 10b|14b-video|small] [--device cuda] [--tokens 256,1024]
//   [--batch n] [--dtype bfloat16] [--steps n] [--no-checkpoint] [--width n --heads n --mlp-ratio r] [--memory-limit GiB]
//   [--gemm n] [--seed n] [--json file]
import { parseOptions } from './options';
import { reportText, writeJson } from './report';
import { sweep } from './sweep';

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  const outcome = sweep(options, { say: (text) => console.error(text) });
  console.log(reportText(options, outcome));
  if (options.json) await writeJson(options.json, options, outcome);
  // Figures of a layer that computes something else are worth nothing.
  if (outcome.rows.length === 0 || !outcome.check?.passed) process.exitCode = 1;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
