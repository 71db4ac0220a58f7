#!/usr/bin/env node
// The program `flowmap`: finds the command, runs it, and says what went wrong in one line. The command's code, and the
// native addon with it, is loaded late: that it cannot be loaded must be said like everything else.
import { nearestName } from '../nearestName';
import { packageVersion } from '../packageRoot';
import { type Command, helpOf, parseOptions, UsageError } from './options';

/** A command's options are read here, or by its own `main`, which gives the exit code. */
type Entry = { name: string; summary: string } & (
  | { load(): Command }
  | { main(args: readonly string[]): Promise<number> }
);

const commands: readonly Entry[] = [
  {
    name: 'doctor',
    summary: 'says what flowmap finds on this machine',
    load: () => (require('./doctor') as typeof import('./doctor')).doctor,
  },
  {
    name: 'train',
    summary: 'trains a network on images of a safetensors file',
    load: () => (require('./train') as typeof import('./train')).trainCommand,
  },
  {
    name: 'sample',
    summary: 'draws images with a trained network',
    load: () => (require('./sample') as typeof import('./sample')).sample,
  },
  {
    name: 'import',
    summary: 'makes a checkpoint of weights that PyTorch code published',
    load: () => (require('./import') as typeof import('./import')).importCommand,
  },
  {
    name: 'bench',
    summary: 'measures operations beside the machine and other libraries',
    main: (args) => (require('../../benchmarks/command') as typeof import('../../benchmarks/command')).bench(args),
  },
];

function help(): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  return [
    'flowmap: trains flow maps and samples from them',
    '',
    'Usage: flowmap <command> [options]',
    '',
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    "'flowmap <command> --help' says more. FLOWMAP_THREADS sets the number of threads, FLOWMAP_DEBUG=1 shows stacks.",
  ].join('\n');
}

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === '--help' || name === '-h' || name === 'help') {
    console.log(help());
    return 0;
  }
  if (name === '--version') {
    console.log(packageVersion());
    return 0;
  }
  if (name === undefined) throw new UsageError("a command is missing; 'flowmap --help' lists them");
  const found = commands.find((each) => each.name === name);
  if (!found) {
    const known = [...commands.map((each) => each.name), '--help', '--version'];
    throw new UsageError(`unknown command '${name}'; did you mean '${nearestName(name, known)}'?`);
  }
  if ('main' in found) return found.main(rest);
  const command = found.load();
  const values = parseOptions(command, rest);
  if (values) return command.run(values);
  console.log(helpOf(found, command));
  return 0;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const debug = process.env.FLOWMAP_DEBUG !== undefined && process.env.FLOWMAP_DEBUG !== '';
    const text = error instanceof Error ? (debug ? (error.stack ?? error.message) : error.message) : String(error);
    console.error(text.startsWith('flowmap: ') ? text : `flowmap: ${text}`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  },
);
