// What `flowmap bench` can be asked for, and what its help says.
import { type PresetName, presetNames } from './presets';
import { describeOptions, type Line, type OptionSpec, readLine, UsageError } from './support/commandLine';
import { dtypes, type Setting } from './support/setting';

/** Whose Triton kernels baselines/triton_peer.py knows how to call. */
export const tritonNames = ['tvm', 'jvp_flash_attention', 'rcm'] as const;

export const reports: Record<string, OptionSpec> = {
  report: { value: 'file.html', help: 'writes a page with tables and charts, which loads nothing' },
  markdown: { value: 'file.md', help: 'writes the tables' },
};

const options: Record<string, OptionSpec> = {
  device: { value: 'name', help: `cpu (default) or cuda` },
  threads: { value: 'n', help: 'threads of the CPU kernels and of the peers, for the whole run' },
  dtype: { value: 'name', help: `${dtypes.join(', ')}; of families that can choose (default on the CPU: float32)` },
  shapes: { value: 'preset', help: `${presetNames.join(', ')}: in place of the families' own sizes` },
  peers: { help: 'beside PyTorch, JAX, onnxruntime-node and jax-js, where installed; CPU, float32, own sizes' },
  triton: {
    value: 'name=folder,…',
    help: `cuda: attention beside the Triton kernels of checkouts: ${tritonNames.join(', ')}`,
  },
  only: { value: 'pattern', help: "cuda: groups whose 'family: title' matches" },
  short: { help: 'cuda: fewer groups, timed less often' },
  json: { value: 'file.json', help: 'writes the figures, and by what they were measured' },
  ...reports,
  help: { help: 'this text' },
};

export interface Request {
  families: string[];
  device: 'cpu' | 'cuda';
  /** Absent: as many as there are. */
  threads?: number;
  dtype?: Setting['dtype'];
  shapes?: PresetName;
  peers: boolean;
  /** Folders of checkouts, by name. */
  triton?: Record<string, string>;
  only?: string;
  short: boolean;
  json?: string;
  line: Line;
}

function oneOf<T extends string>(line: Line, name: string, known: readonly T[]): T | undefined {
  const value = line.text(name);
  if (value === undefined || known.includes(value as T)) return value as T | undefined;
  throw new UsageError(`--${name} must be one of ${known.join(', ')}, got '${value}'`);
}

function checkoutsOf(text: string): Record<string, string> {
  const pairs = text.split(',').map((pair) => /^([^=]+)=(.+)$/.exec(pair));
  const names = pairs.map((pair) => pair?.[1]);
  const known: readonly (string | undefined)[] = tritonNames;
  if (names.some((name) => !known.includes(name)) || new Set(names).size < names.length) {
    throw new UsageError(`--triton takes name=folder,… with names among ${tritonNames.join(', ')}, got '${text}'`);
  }
  return Object.fromEntries(pairs.map((pair) => [pair![1]!, pair![2]!]));
}

/** What is to be measured; null where help is asked for. @throws UsageError */
export function readRequest(args: readonly string[]): Request | null {
  const line = readLine(options, args);
  if (line.flag('help')) return null;
  const device = oneOf(line, 'device', ['cpu', 'cuda'] as const) ?? 'cpu';
  const threads = line.text('threads');
  if (threads !== undefined && !/^[1-9]\d{0,3}$/.test(threads)) {
    throw new UsageError(`--threads must be a whole number from 1, got '${threads}'`);
  }
  const dtype = oneOf(line, 'dtype', dtypes);
  const shapes = oneOf(line, 'shapes', presetNames);
  const refuse = (names: readonly string[], why: string) => {
    const given = names.find((name) => line.text(name) !== undefined || line.flag(name));
    if (given) throw new UsageError(`--${given} ${why}`);
  };
  if (device === 'cuda') refuse(['threads', 'peers'], 'is for the CPU and has no meaning with --device cuda');
  else refuse(['only', 'short', 'triton'], 'needs --device cuda');
  if (line.flag('peers'))
    refuse(['dtype', 'shapes'], 'cannot be chosen with --peers, which measures float32 at sizes of its own');
  return {
    families: line.positionals,
    device,
    ...(threads === undefined ? {} : { threads: Number(threads) }),
    ...(dtype ? { dtype } : {}),
    ...(shapes ? { shapes } : {}),
    peers: line.flag('peers'),
    ...(line.text('triton') === undefined ? {} : { triton: checkoutsOf(line.text('triton')!) }),
    ...(line.text('only') === undefined ? {} : { only: line.text('only')! }),
    short: line.flag('short'),
    ...(line.text('json') === undefined ? {} : { json: line.text('json')! }),
    line,
  };
}

export interface Families {
  cpu: readonly string[];
  peers: readonly string[];
  cuda: readonly string[];
}

export function helpText(families: Families, program: string): string {
  const uses = [
    ['[family ...] [options]', 'measures'],
    ['diff a.json b.json', 'compares two runs row by row'],
    ['report run.json [--report file.html] [--markdown file.md]', 'shows a run measured before'],
  ] as const;
  return [
    ...uses.map(([use, what], i) => `${i === 0 ? 'Usage: ' : '       '}${program} ${use}\n         ${what}`),
    '',
    ...describeOptions(options),
    '',
    `Families: ${families.cpu.join(', ')}`,
    `with --peers: ${families.peers.join(', ')}`,
    `with --device cuda: ${families.cuda.join(', ')}`,
    'All of them that can do what is asked, unless some are named.',
    '',
    'Presets are sizes by name (benchmarks/presets.ts says where they come from). What is too large for a CPU is capped there,',
    "and 'n of m' in a title says how much of it was left.",
    '',
    "A row's peak is the most memory one run takes above what was held before it: results, what is made on the way, workspaces.",
    "It is counted in blocks of flowmap's allocator (up to an eighth larger than asked for), without what that keeps for reuse and",
    'what libraries take for themselves.',
  ].join('\n');
}
