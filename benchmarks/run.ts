// `npm run bench [family …] [--peers] [--json out.json]`: measures families of operations beside the machine's ceilings and,
// with --peers, beside the other libraries found on this machine.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { threads } from '../lib';
import { Peers } from './baselines/peers';
import { copyCeiling, gemmCeiling } from './support/ceilings';
import { measure, type Row, type Subject } from './support/measure';
import { type Ceilings, printTable, writeJson } from './support/report';

/** What a `benchmarks/{ops,peers}/<family>.bench` file exports: groups of subjects to be measured together. */
export interface Bench {
  groups(peers: Peers): Iterable<Group> | AsyncIterable<Group>;
}

export interface Group {
  title: string;
  subjects: Subject[];
  /** Called when the group was measured. */
  done?: () => Promise<void>;
}

function benches(folder: string): string[] {
  return readdirSync(join(__dirname, folder))
    .map((file) => /^(.+)\.bench\.[jt]s$/.exec(file)?.[1])
    .filter((name): name is string => name !== undefined)
    .sort();
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { json: { type: 'string' }, peers: { type: 'boolean' } },
    allowPositionals: true,
  });
  const folder = values.peers ? 'peers' : 'ops';
  const families = benches(folder);
  const wanted = positionals.length > 0 ? positionals : families;
  for (const family of wanted) {
    if (!families.includes(family))
      throw new Error(`bench: unknown family '${family}', expected one of ${families.join(', ')}`);
  }
  const [gemm, copy] = (await measure([gemmCeiling(), copyCeiling()], { rounds: 5, atLeast: 0.1 })) as [Row, Row];
  const ceilings: Ceilings = { flops: gemm.flops! / gemm.p10, bytes: copy.bytes! / copy.p10 };
  printTable('ceilings', [gemm, copy], {});
  const all: Record<string, Row[]> = { ceilings: [gemm, copy] };
  const peers = values.peers ? await Peers.find(threads()) : null;
  for (const line of peers?.found ?? []) console.log(line);
  for (const family of wanted) {
    const bench = require(join(__dirname, folder, `${family}.bench`)) as Bench;
    for await (const { title, subjects, done } of bench.groups(peers!)) {
      const rows = await measure(subjects);
      printTable(`${family}: ${title}`, rows, ceilings);
      all[family] = [...(all[family] ?? []), ...rows.map((row) => ({ ...row, group: title }))];
      await done?.();
    }
  }
  await peers?.stop();
  if (values.json) writeJson(values.json, all, ceilings, peers?.found);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
