// Writes what the forward of attention gives for some cases (ATTENTION_CASES: which) to the file ATTENTION_RESULTS, as
// float64; test/cuda/attentionHopper.test.ts runs it on an emulated Hopper GPU and in other schedules.
import { writeFileSync } from 'node:fs';
import { forwardOf } from '../../support/fusedForward';
import { hopperCases } from './attentionHopperCases';

const results = hopperCases[process.env.ATTENTION_CASES as keyof typeof hopperCases]().flatMap((each) => {
  const { o, to, lse, mu } = forwardOf('cuda', each);
  return [o, to, lse, mu].map((x) => Buffer.from(x.buffer, x.byteOffset, x.byteLength));
});
writeFileSync(process.env.ATTENTION_RESULTS!, Buffer.concat(results));
process.stdout.write('{}');
