// The instruction wrappers on the GPU, recorded, and the emulator beside it on the same machine.
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { compare, programs, type Recording, runsOn, toRecording } from '../conformance/compare';
import { parseLines, program, type Runtime } from '../support/programs';
import { describeEnd, runChild } from './child';
import type { Context, Result } from './step';

async function record(runtime: Runtime, milliseconds: number): Promise<Recording> {
  const lines: object[] = [];
  for (const { name, capabilities, env: device } of programs) {
    if (!runsOn(runtime, lines[0], capabilities)) continue;
    const { path, env } = program(name, runtime);
    const ended = await runChild(path, [], { milliseconds, env: { ...env, ...device } });
    if (ended.status !== 0) throw new Error(`${name} (${runtime}) ${describeEnd(ended)}`);
    const printed = parseLines<object>(ended.stdout);
    lines.push(...(lines.length === 0 ? printed : printed.slice(1)));
  }
  return toRecording(lines);
}

export async function conformance({ emulated, left, file }: Context): Promise<Result> {
  const recording = await record(emulated ? 'emulated' : 'gpu', left());
  if (!emulated && /emulator/.test(recording.device)) throw new Error(`expected a GPU, got ${recording.device}`);
  const path = file('recording.json');
  writeFileSync(path, `${JSON.stringify(recording, null, 2)}\n`);
  const differences = compare(recording, await record('emulated', left()));
  return {
    outcome: differences.length === 0 ? 'passed' : 'failed',
    summary: [
      `${recording.cases.length} cases of ${recording.device}, wrappers ${recording.hash}, in ${basename(path)}`,
      `the emulator differs in ${differences.length} values`,
      ...differences.slice(0, 20),
    ],
    details: {
      device: recording.device,
      hash: recording.hash,
      cases: recording.cases.length,
      recording: basename(path),
      differences,
    },
  };
}
