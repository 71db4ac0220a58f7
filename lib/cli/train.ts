// `flowmap train`: trains as a configuration file says; what stops it leaves a checkpoint to go on from.
import { existsSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { dispose } from '../memory';
import { nearestName } from '../nearestName';
import { stageKeys } from '../training/config';
import { train } from '../training/train';
import { readConfig } from './configFile';
import { readDataset } from './dataset';
import { type Command, UsageError } from './options';

const interrupted = 130;

/** Short names for the command line. */
const objectives = {
  tvm: 'tvm',
  imm: 'imm',
  fm: 'flowMatching',
  meanflow: 'meanFlow',
  drifting: 'drifting',
  ct: 'consistency',
} as const;

export const trainCommand: Command = {
  options: {
    config: { type: 'string', required: true, value: 'file.json', help: 'seed, model, data and stages' },
    set: { type: 'string', multiple: true, value: 'key=value', help: 'one key of it, as stages.0.steps=100' },
    objective: {
      type: 'string',
      value: Object.keys(objectives).join('|'),
      help: "of the last stage, in place of the file's",
    },
    out: { type: 'string', value: 'folder', help: "checkpoints and metrics; default runs/<the config's name>" },
    device: { type: 'string', value: 'name', help: "'cpu' (default), 'cuda' or 'cuda:1'" },
    resume: { type: 'boolean', help: 'go on from the checkpoint there' },
    quiet: { type: 'boolean', help: 'print errors only' },
  },
  notes:
    "The file that data.path names has 'images', float32 [N, H, W] or [N, C, H, W], and 'labels', int32 [N]; training\n" +
    'sees (images - data.mean) / data.std. Ctrl-C writes a checkpoint and ends with code 130.',
  async run(values) {
    const file = values.text('config')!;
    const out = values.text('out') ?? join('runs', basename(file, extname(file)));
    const [resume, quiet] = [values.flag('resume'), values.flag('quiet')];
    const objective = values.text('objective');
    const config = await readConfig(file, values.texts('set'), (given) => withObjective(given, objective));
    const there = existsSync(join(out, 'checkpoint.safetensors'));
    if (resume && !there) throw new UsageError(`--resume: ${out} has no checkpoint`);
    if (!resume && there) {
      throw new UsageError(`${out} has a checkpoint already: --resume goes on from it, --out names another folder`);
    }
    const stop = new AbortController();
    const abort = () => stop.abort();
    // Once: a second Ctrl-C ends the process at once.
    process.once('SIGINT', abort);
    process.once('SIGTERM', abort);
    try {
      const data = await readDataset(config, values.text('device') ?? 'cpu');
      try {
        const { finished, step, checkpoint, net } = await train(config, data, {
          out,
          resume,
          quiet,
          signal: stop.signal,
        });
        net.dispose();
        if (!finished) {
          console.error(
            `flowmap: stopped after step ${step}; to go on: ${resumption(file, out, values.texts('set'), { objective, device: values.text('device') })}`,
          );
          return interrupted;
        }
        if (!quiet) console.log(`trained ${step} steps: ${checkpoint}`);
        return 0;
      } finally {
        dispose(data);
      }
    } finally {
      process.off('SIGINT', abort);
      process.off('SIGTERM', abort);
    }
  },
};

/** The last stage trains something else: what the new objective has no use for is left out of it. */
function withObjective(config: Record<string, unknown>, name: string | undefined): Record<string, unknown> {
  if (name === undefined) return config;
  if (!Object.hasOwn(objectives, name)) {
    const nearest = nearestName(name, Object.keys(objectives));
    throw new UsageError(
      `--objective must be one of ${Object.keys(objectives).join(', ')}, got '${name}'; did you mean '${nearest}'?`,
    );
  }
  const objective = objectives[name as keyof typeof objectives];
  const { stages } = config;
  if (!Array.isArray(stages) || stages.length === 0) return config; // for the validation to refuse
  const last = stages.at(-1) as unknown;
  if (typeof last !== 'object' || last === null || (last as { objective?: unknown }).objective === objective)
    return config;
  const known = Object.entries(last).filter(([key]) => Object.hasOwn(stageKeys[objective], key));
  return { ...config, stages: [...stages.slice(0, -1), { ...Object.fromEntries(known), objective }] };
}

/** The command line that goes on, for a POSIX shell. */
function resumption(
  file: string,
  out: string,
  assignments: readonly string[],
  others: { objective?: string; device?: string },
): string {
  const quote = (text: string) => (/^[\w./=:,+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const set = assignments.map((text) => ` --set ${quote(text)}`).join('');
  const other = Object.entries(others)
    .flatMap(([name, value]) => (value ? [` --${name} ${quote(value)}`] : []))
    .join('');
  return `flowmap train --config ${quote(file)}${other}${set} --out ${quote(out)} --resume`;
}
