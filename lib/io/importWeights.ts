// A PyTorch state dict in a safetensors file, held against the names and shapes that a network has.
import { FormatError } from '../errors';
import { dispose } from '../memory';
import { globalNorm } from '../optim/clip';
import type { Tensor } from '../tensor';
import { loadFile, readSafetensorsHeader } from './safetensors';
import { quote, type SafetensorsEntry } from './safetensorsHeader';

export interface ImportOptions {
  /** Only tensors whose names begin so are looked at; the rest is left alone. It is taken off the names. Default ''. */
  emaPrefix?: string;
  /** Taken off the names that are looked at. Default: what stands before `anchor`. */
  prefix?: string;
}

export interface ImportedWeights {
  /** By the network's names, with the file's bits. The caller disposes them. */
  tensors: Map<string, Tensor>;
  /** What was taken off the names. */
  prefix: string;
  /** How many tensors of the file were left alone. */
  skipped: number;
}

/** A name that every such network has exactly once. */
const anchor = 'x_embedder.proj.weight';
const listed = 40;

function refuse(path: string, detail: string): never {
  throw new FormatError('import', `${path}: ${detail}`);
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, listed).join(', ');
  return names.length > listed ? `${shown} and ${names.length - listed} more` : shown;
}

function findPrefix(path: string, names: readonly string[]): string {
  const found = names.filter((name) => name.endsWith(anchor)).map((name) => name.slice(0, -anchor.length));
  if (found.length === 0) {
    const some = names.length > 0 ? `it has ${list(names.map(quote).slice(0, 5))}, ...` : 'it has none';
    return refuse(path, `no tensor's name ends in '${anchor}': not such a network's weights; ${some}`);
  }
  if (found.length > 1) {
    return refuse(path, `holds ${found.length} networks: --ema-prefix must name one of ${list(found.map(quote))}`);
  }
  return found[0]!;
}

/** What differs, as one text; empty where nothing does. */
function differences(
  entries: ReadonlyMap<string, SafetensorsEntry>,
  shapes: ReadonlyMap<string, readonly number[]>,
  leftOver: readonly string[],
): string {
  const missing = [...shapes.keys()].filter((name) => !entries.has(name));
  const unexpected = [...[...entries.keys()].filter((name) => !shapes.has(name)), ...leftOver];
  const wrong: string[] = [];
  for (const [name, shape] of shapes) {
    const entry = entries.get(name);
    if (!entry) continue;
    if (entry.shape.join() !== shape.join()) {
      wrong.push(`'${name}' must have shape [${shape.join(', ')}], got [${entry.shape.join(', ')}]`);
    } else if (entry.dtype === 'int32' || entry.dtype === 'bool') {
      wrong.push(`'${name}' must be floating, got ${entry.dtype}`);
    }
  }
  const parts = [
    missing.length > 0 ? `missing: ${list(missing)}` : '',
    unexpected.length > 0 ? `left over: ${list(unexpected)}` : '',
    list(wrong),
  ];
  return parts.filter((part) => part !== '').join('; ');
}

/**
 * Reads the tensors that `shapes` names, under whatever prefix the file has them. Names and shapes are checked before any
 * tensor is read.
 *
 * @throws FormatError that lists what is missing, left over or of another shape; naming a tensor that is not finite
 */
export async function importWeights(
  path: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  { emaPrefix = '', prefix: given }: ImportOptions = {},
): Promise<ImportedWeights> {
  const header = await readSafetensorsHeader(path);
  const chosen = [...header.tensors].filter(([name]) => name.startsWith(emaPrefix));
  const skipped = header.tensors.size - chosen.length;
  if (chosen.length === 0) refuse(path, `none of ${skipped} names begins with the EMA's prefix ${quote(emaPrefix)}`);
  const names = chosen.map(([name]) => name.slice(emaPrefix.length));
  const inner = given ?? findPrefix(path, names);
  const prefix = emaPrefix + inner;
  const inside = chosen.filter(([name]) => name.startsWith(prefix));
  const leftOver = chosen.filter(([name]) => !name.startsWith(prefix)).map(([name]) => name);
  const entries = new Map(inside.map(([name, entry]) => [name.slice(prefix.length), entry]));
  const wrong = differences(entries, shapes, leftOver);
  if (wrong !== '') refuse(path, inner === '' ? wrong : `without the prefix ${quote(prefix)}: ${wrong}`);
  const { tensors } = await loadFile('import', path, {}, (name) => name.startsWith(prefix));
  const renamed = new Map([...shapes.keys()].map((name) => [name, tensors.get(prefix + name)!]));
  try {
    for (const [name, x] of renamed) {
      const norm = globalNorm([x]);
      const value = await norm.item();
      norm.dispose();
      if (!Number.isFinite(value)) refuse(path, `'${prefix}${name}' is not finite`);
    }
  } catch (error) {
    dispose([...renamed.values()]);
    throw error;
  }
  return { tensors: renamed, prefix, skipped };
}
