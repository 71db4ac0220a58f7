// The command line of the benchmarks: read strictly, every mistake answered with what there is.
import { parseArgs } from 'node:util';
import { UsageError } from '../../lib/cli/options';

export { UsageError };

export interface OptionSpec {
  /** What stands for the value in the help, as 'file'; none for a switch. */
  value?: string;
  help: string;
}

export interface Line {
  positionals: string[];
  text(name: string): string | undefined;
  flag(name: string): boolean;
}

/** Reads `args` by the options there are. @throws UsageError */
export function readLine(options: Readonly<Record<string, OptionSpec>>, args: readonly string[]): Line {
  const config = Object.fromEntries(
    Object.entries(options).map(([name, { value }]) => [name, { type: value ? 'string' : 'boolean' } as const]),
  );
  const { tokens } = parseArgs({ args: [...args], options: config, strict: false, tokens: true });
  const values = new Map<string, string | true>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const spec = Object.hasOwn(options, token.name) ? options[token.name] : undefined;
    if (!spec) throw new UsageError(`unknown option '${token.rawName}', expected one of ${namesOf(options)}`);
    if (values.has(token.name)) throw new UsageError(`--${token.name} is given twice`);
    if (!spec.value) {
      if (token.value !== undefined) throw new UsageError(`--${token.name} takes no value, got '${token.value}'`);
      values.set(token.name, true);
    } else {
      if (!token.value || (!token.inlineValue && token.value.startsWith('--'))) {
        throw new UsageError(`--${token.name} needs a value: --${token.name} <${spec.value}>`);
      }
      values.set(token.name, token.value);
    }
  }
  return {
    positionals,
    text: (name) => values.get(name) as string | undefined,
    flag: (name) => values.get(name) === true,
  };
}

function namesOf(options: Readonly<Record<string, OptionSpec>>): string {
  return Object.keys(options)
    .map((name) => `--${name}`)
    .join(', ');
}

/** One line an option, aligned. */
export function describeOptions(options: Readonly<Record<string, OptionSpec>>): string[] {
  const label = ([name, { value }]: [string, OptionSpec]) => `--${name}${value ? ` <${value}>` : ''}`;
  const width = Math.max(...Object.entries(options).map((entry) => label(entry).length));
  return Object.entries(options).map((entry) => `  ${label(entry).padEnd(width)}  ${entry[1].help}`);
}
