// The figures, for people (two tables and what they mean) and for programs (JSON).
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { cudaFeatures, features } from 'flowmap';
import type { Check } from './check';
import { total } from './measure';
import type { Options } from './options';
import type { Outcome, Row } from './sweep';

/** What the figures were measured on. */
export function machine(device: string): string {
  if (device === 'cpu') {
    const { threads, simd } = features();
    return `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${threads} threads, ${simd}`;
  }
  const { devices, emulated } = cudaFeatures();
  const { name, memoryBytes } = devices[Number(device.split(':')[1] ?? 0)]!;
  const note = emulated ? ', emulated on the processor: its times say nothing about a GPU' : '';
  return `${name}, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB${note}`;
}

/** Three digits, as far as they go, without exponents. */
function digits(value: number): string {
  const places = value === 0 ? 0 : 2 - Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(6, Math.max(0, places)));
}

function table(head: string[], rows: string[][]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  return [head, ...rows].map((row) => row.map((cell, i) => cell.padStart(widths[i]!)).join('  ')).join('\n');
}

/** Operations a second of a whole step: forward, backward with what is computed again, and the optimiser. */
export const rateOf = ({ operations, seconds }: Row) => (operations.forward + operations.backward) / total(seconds);

const milliseconds = (seconds: number) => digits(1000 * seconds);

function timeTable(rows: readonly Row[], gemm: number, batch: number): string {
  const head = ['tokens', 'forward', 'backward', 'again', 'AdamW', 'step', 'TFLOP/s', 'of GEMM', 'tokens/s'];
  return table(
    head,
    rows.map((row) => {
      const { forward, backward, recomputation, optimizer } = row.seconds;
      const all = total(row.seconds);
      return [
        `${row.tokens}`,
        ...[forward, backward, recomputation, optimizer, all].map(milliseconds),
        digits(rateOf(row) / 1e12),
        `${((100 * rateOf(row)) / gemm).toFixed(1)} %`,
        digits((batch * row.tokens) / all),
      ];
    }),
  );
}

function memoryTable(rows: readonly Row[]): string {
  const head = ['tokens', 'weights', 'AdamW', 'inputs', 'kept', 'workspace', 'peak'];
  return table(
    head,
    rows.map(({ tokens, memory: { weights, optimizer, inputs, kept, workspace, peak } }) => [
      `${tokens}`,
      ...[weights, optimizer, inputs, kept, workspace, peak].map((bytes) => digits(bytes / 2 ** 20)),
    ]),
  );
}

function checkText({ tokens, tolerance, errors, passed }: Check): string {
  const list = Object.entries(errors).map(([name, error]) => `  ${error.toExponential(1)}  ${name}`);
  const verdict = passed ? 'passed' : 'FAILED';
  return `Check at ${tokens} tokens ${verdict}: relative distance from float64, at most ${tolerance}\n${list.join('\n')}`;
}

/** What is printed on the standard output. */
export function reportText(options: Options, { gemm, parameters, check, rows, outOfMemory }: Outcome): string {
  const { name, model, dtype, batch, device } = options;
  const { width, heads, mlpRatio } = model;
  const masters = dtype === 'bfloat16' || dtype === 'float16' ? ', float32 masters' : '';
  const parts = [
    `One DiT block (${name}): width ${width}, ${heads} heads of ${width / heads}, MLP × ${mlpRatio}, ${digits(parameters / 1e6)} M parameters
${dtype}${masters}, batch ${batch}, ${options.checkpoint ? 'checkpointed' : 'not checkpointed'}; ${machine(device)}
GEMM: a ${dtype} product of ${gemm.n}³ in the same run, ${digits(gemm.rate / 1e12)} TFLOP/s (median of 5)`,
  ];
  if (check) parts.push(checkText(check));
  if (rows.length > 0) {
    parts.push(
      `Time in ms; 'again' is the layer computed a second time for its gradients\n${timeTable(rows, gemm.rate, batch)}`,
      `Memory in MiB; 'kept' from forward to backward, 'workspace' all else at the peak (gradients, temporaries)${
        // Those of a product of 16-bit floats are float32 copies of its matrices.
        device === 'cpu' ? ';\nwhat a CPU kernel takes for itself is not counted' : ''
      }\n${memoryTable(rows)}`,
      `TFLOP/s: operations of the model over the time of the whole step. Forward 4 a weight and token and 12 a query, key and
channel (value and tangent), backward twice that; what is computed again does not count.`,
    );
  }
  if (outOfMemory) {
    parts.push(`Out of memory at ${outOfMemory.at}, ${rows.length} measured before: ${outOfMemory.message}`);
  }
  return parts.join('\n\n');
}

/** Everything in seconds, bytes and operations. */
export async function writeJson(path: string, options: Options, outcome: Outcome): Promise<void> {
  const rows = outcome.rows.map((row) => ({
    ...row,
    stepSeconds: total(row.seconds),
    operationsPerSecond: rateOf(row),
    utilisation: rateOf(row) / outcome.gemm.rate,
    tokensPerSecond: (options.batch * row.tokens) / total(row.seconds),
  }));
  const figures = { machine: machine(options.device), options, ...outcome, rows };
  await writeFile(path, `${JSON.stringify(figures, null, 2)}\n`);
}
