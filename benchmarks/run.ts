// `npm run bench [family …] [--json out.json]`: measures families of operations beside the machine's ceilings.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { copyCeiling, gemmCeiling } from './support/ceilings';
import { measure, type Row, type Subject } from './support/measure';
import { type Ceilings, printTable, writeJson } from './support/report';

/** What a `benchmarks/ops/<family>.bench` file exports: groups of subjects to be measured together. */
export interface Bench {
  groups(): Iterable<{ title: string; subjects: Subject[] }>;
}

function available(): string[] {
  return readdirSync(join(__dirname, 'ops'))
    .map((file) => /^(.+)\.bench\.[jt]s$/.exec(file)?.[1])
    .filter((name): name is string => name !== undefined)
    .sort();
}

function main(): void {
  const { values, positionals } = parseArgs({ options: { json: { type: 'string' } }, allowPositionals: true });
  const families = available();
  const wanted = positionals.length > 0 ? positionals : families;
  for (const family of wanted) {
    if (!families.includes(family))
      throw new Error(`bench: unknown family '${family}', expected one of ${families.join(', ')}`);
  }
  const [gemm, copy] = measure([gemmCeiling(), copyCeiling()], { rounds: 5, atLeast: 0.1 }) as [Row, Row];
  const ceilings: Ceilings = { flops: gemm.flops! / gemm.p10, bytes: copy.bytes! / copy.p10 };
  printTable('ceilings', [gemm, copy], {});
  const all: Record<string, Row[]> = { ceilings: [gemm, copy] };
  for (const family of wanted) {
    const bench = require(join(__dirname, 'ops', `${family}.bench`)) as Bench;
    for (const { title, subjects } of bench.groups()) {
      const rows = measure(subjects);
      printTable(`${family}: ${title}`, rows, ceilings);
      all[family] = [...(all[family] ?? []), ...rows];
    }
  }
  if (values.json) writeJson(values.json, all, ceilings);
}

main();
