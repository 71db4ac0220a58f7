// A run's whole state in one safetensors file: groups of tensors, and plain values beside them.
// Replacing the file is atomic, so a run that is killed while it saves goes on from the checkpoint before.
import { ArgumentError, FormatError } from '../errors';
import type { Tensor } from '../tensor';
import { type LoadOptions, loadFile, saveFile } from './safetensors';
import { quote } from './safetensorsHeader';
import { findDuplicateKey } from './uniqueKeys';

/** What JSON can say. Numbers must be finite. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };

export interface Checkpoint {
  /** Tensors by group and name. A group's name has no slash; one without tensors is kept. */
  tensors: Record<string, Map<string, Tensor>>;
  state: JsonValue;
}

const stateKey = 'flowmap.state';
const formatKey = 'flowmap.format';
const format = 'checkpoint';

/**
 * Writes a checkpoint: the file at `path` is the old one or the whole new one at any moment. Numbers in `state` come
 * back exactly. The tensors must not be changed in place or disposed before the promise resolves.
 */
export async function saveCheckpoint(
  path: string,
  { tensors, state }: { tensors: Readonly<Record<string, ReadonlyMap<string, Tensor>>>; state: JsonValue },
): Promise<void> {
  const groups = Object.keys(tensors);
  const named: [string, Tensor][] = [];
  for (const group of groups) {
    if (group.includes('/')) throw new ArgumentError('saveCheckpoint', `a group must have no '/', got ${quote(group)}`);
    for (const [name, x] of tensors[group]!) named.push([`${group}/${name}`, x]);
  }
  const written = `{"groups":${JSON.stringify(groups)},"state":${serialise(state, 'state')}}`;
  await saveFile('saveCheckpoint', path, named, { [formatKey]: format, [stateKey]: written });
}

/**
 * Reads what {@link saveCheckpoint} wrote.
 *
 * @throws FormatError if the file is malformed or no checkpoint
 */
export async function loadCheckpoint(path: string, options: LoadOptions = {}): Promise<Checkpoint> {
  const { metadata, tensors: named } = await loadFile('loadCheckpoint', path, options);
  try {
    const { groups, state } = readState(path, metadata);
    const tensors = new Map(groups.map((group) => [group, new Map<string, Tensor>()]));
    for (const [key, x] of named) {
      const slash = key.indexOf('/');
      const group = slash < 0 ? undefined : tensors.get(key.slice(0, slash));
      if (!group) throw malformed(path, `tensor ${quote(key)} belongs to no group`);
      group.set(key.slice(slash + 1), x);
    }
    return { tensors: Object.fromEntries(tensors), state };
  } catch (error) {
    for (const x of named.values()) x.dispose();
    throw error;
  }
}

function malformed(path: string, detail: string, options: ErrorOptions = {}): FormatError {
  return new FormatError('loadCheckpoint', `${path}: ${detail}`, options);
}

function readState(path: string, metadata: Readonly<Record<string, string>>): { groups: string[]; state: JsonValue } {
  if (metadata[formatKey] !== format) {
    throw malformed(path, `not a checkpoint: metadata '${formatKey}' must be '${format}'`);
  }
  const text = metadata[stateKey];
  if (text === undefined) throw malformed(path, `metadata '${stateKey}' is missing`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw malformed(path, `metadata '${stateKey}' is not JSON`, { cause });
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) throw malformed(path, `metadata '${stateKey}' has ${quote(duplicate)} twice`);
  const { groups, state } = (value ?? {}) as { groups?: unknown; state?: JsonValue };
  if (!Array.isArray(groups) || !groups.every((group) => typeof group === 'string') || state === undefined) {
    throw malformed(path, `metadata '${stateKey}' must have groups and a state`);
  }
  return { groups, state };
}

/** JSON that gives back exactly `value`: JSON.stringify turns NaN to null, -0 to 0, and drops what it cannot say. */
function serialise(value: unknown, where: string): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number' && Number.isFinite(value)) return Object.is(value, -0) ? '-0' : String(value);
  if (Array.isArray(value)) return `[${Array.from(value, (item, i) => serialise(item, `${where}[${i}]`)).join()}]`;
  if (typeof value === 'object') {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === null || Object.getPrototypeOf(prototype) === null) {
      const members = Object.entries(value).map(
        ([key, item]) => `${JSON.stringify(key)}:${serialise(item, `${where}.${key}`)}`,
      );
      return `{${members.join()}}`;
    }
  }
  const got = typeof value === 'object' ? `an object of class ${value.constructor?.name}` : String(value);
  throw new ArgumentError('saveCheckpoint', `${where} must be a JSON value, got ${got}`);
}
