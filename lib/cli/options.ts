// Command lines: node:util's parser, with messages of our own that name the nearest thing there is.
import { parseArgs } from 'node:util';
import { nearestName } from '../nearestName';

/** The command line is wrong. Ends the process with code 2. */
export class UsageError extends Error {}

export interface OptionSpec {
  type: 'string' | 'boolean';
  multiple?: boolean;
  required?: boolean;
  /** What stands for the value in the help, as 'file'. */
  value?: string;
  help: string;
}

export interface Command {
  options: Record<string, OptionSpec>;
  /** What else the help says. */
  notes?: string;
  /** @returns the exit code */
  run(values: OptionValues): Promise<number>;
}

/** Values of a command line that was checked against the command's options. */
export class OptionValues {
  constructor(private readonly values: Record<string, unknown>) {}

  text(name: string): string | undefined {
    return this.values[name] as string | undefined;
  }

  texts(name: string): string[] {
    return (this.values[name] as string[] | undefined) ?? [];
  }

  flag(name: string): boolean {
    return this.values[name] === true;
  }

  whole(name: string, { least, otherwise }: { least: number; otherwise: number }): number {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    const value = Number(text);
    if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) {
      throw new UsageError(`--${name} must be an integer of at least ${least}, got '${text}'`);
    }
    return value;
  }

  positive(name: string, otherwise: number): number {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || value <= 0) {
      throw new UsageError(`--${name} must be a positive number, got '${text}'`);
    }
    return value;
  }
}

const helpOption: OptionSpec = { type: 'boolean', help: 'this text' };

/** Checks `args` against the command's options. @returns null where help is asked for */
export function parseOptions(command: Command, args: readonly string[]): OptionValues | null {
  const options: Record<string, OptionSpec> = { ...command.options, help: helpOption };
  const config = Object.fromEntries(
    Object.entries(options).map(([name, { type, multiple = false }]) => [
      name,
      { type, multiple, ...(name === 'help' ? { short: 'h' } : {}) },
    ]),
  );
  // Tokens first, leniently: the parser's own messages neither name the nearest option nor fit ours.
  const { tokens } = parseArgs({ args: [...args], options: config, strict: false, tokens: true });
  const values: Record<string, unknown> = {};
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue;
    if (token.kind === 'positional') throw new UsageError(`'${token.value}' is not expected here`);
    const spec = Object.hasOwn(options, token.name) ? options[token.name] : undefined;
    if (!spec) {
      throw new UsageError(`unknown option '${token.rawName}'; did you mean '--${nearest(token.name, options)}'?`);
    }
    if (spec.type === 'boolean') {
      if (token.value !== undefined) throw new UsageError(`--${token.name} takes no value, got '${token.value}'`);
      values[token.name] = true;
    } else {
      if (token.value === undefined || (!token.inlineValue && token.value.startsWith('--'))) {
        throw new UsageError(`--${token.name} needs a value: --${token.name} <${spec.value ?? 'value'}>`);
      }
      if (spec.multiple) values[token.name] = [...((values[token.name] as string[] | undefined) ?? []), token.value];
      else if (values[token.name] !== undefined) throw new UsageError(`--${token.name} is given twice`);
      else values[token.name] = token.value;
    }
  }
  if (values.help) return null;
  for (const [name, { required, value }] of Object.entries(options)) {
    if (required && values[name] === undefined) throw new UsageError(`--${name} <${value ?? 'value'}> is missing`);
  }
  return new OptionValues(values);
}

function nearest(name: string, options: Record<string, unknown>): string {
  return nearestName(name, Object.keys(options));
}

/** The text of `--help`. */
export function helpOf({ name: called, summary }: { name: string; summary: string }, command: Command): string {
  const options = Object.entries({ ...command.options, help: helpOption });
  const label = (name: string, { value }: OptionSpec) => `--${name}${value ? ` <${value}>` : ''}`;
  const width = Math.max(...options.map(([name, spec]) => label(name, spec).length));
  const usage = options.map(([name, spec]) => {
    const text = label(name, spec);
    return spec.required ? text : `[${text}]${spec.multiple ? '...' : ''}`;
  });
  return [
    `flowmap ${called}: ${summary}`,
    '',
    `Usage: flowmap ${called} ${usage.join(' ')}`,
    '',
    ...options.map(([name, spec]) => `  ${label(name, spec).padEnd(width)}  ${spec.help}`),
    ...(command.notes ? ['', command.notes] : []),
  ].join('\n');
}
