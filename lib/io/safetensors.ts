// Tensors in and out of safetensors files, bit by bit.
import { type FileHandle, open } from 'node:fs/promises';
import { itemSize } from '../dtype';
import { ArgumentError, FormatError, ShapeError } from '../errors';
import { native } from '../native';
import { isTensor, Tensor } from '../tensor';
import { readAll, writeAtomically } from './atomicFile';
import {
  formatHeader,
  maxHeaderBytes,
  parseHeader,
  quote,
  type Refuse,
  type SafetensorsEntry,
  type SafetensorsHeader,
} from './safetensorsHeader';

export type { SafetensorsEntry, SafetensorsHeader } from './safetensorsHeader';

export interface LoadOptions {
  /** Where the tensors go. Default: 'cpu'. */
  device?: string;
}

/**
 * The tensors of a safetensors file, with the bits it has.
 *
 * @throws FormatError if the file is malformed, or has a dtype that flowmap has not
 */
export async function loadSafetensors(path: string, options: LoadOptions = {}): Promise<Map<string, Tensor>> {
  return (await loadFile('loadSafetensors', path, options)).tensors;
}

/** What a safetensors file says of itself, without its data. Throws as {@link loadSafetensors} does. */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  return withFile('readSafetensorsHeader', path, async (_file, header) => header);
}

/**
 * Writes tensors, and strings of your own, to a safetensors file. The file appears whole or not at all. The tensors must
 * not be changed in place or disposed before the promise resolves.
 */
export async function saveSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await saveFile('saveSafetensors', path, tensors instanceof Map ? tensors : Object.entries(tensors), metadata);
}

/** @internal {@link saveSafetensors} in the name of `op`. */
export async function saveFile(
  op: string,
  path: string,
  tensors: Iterable<[string, Tensor]>,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const refuse: Refuse = (detail) => {
    throw new ArgumentError(op, detail);
  };
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') refuse(`metadata must hold strings, got ${typeof value} for ${quote(key)}`);
  }
  const named = [...tensors];
  for (const [name, value] of named) {
    if (!isTensor(value)) refuse(`tensors must hold tensors, got ${typeof value} for ${quote(name)}`);
    if (value.disposed) refuse(`tensors must hold live tensors, got one that was disposed for ${quote(name)}`);
    if (name === '__metadata__') refuse('tensors must not have the name "__metadata__", which the format reserves');
  }
  // Wide elements first, so that each tensor is aligned to its own in a mapped file.
  const order = [...named].sort(([, a], [, b]) => itemSize[b.dtype] - itemSize[a.dtype]);
  const offsets = new Map<string, { begin: number; end: number }>();
  let total = 0;
  for (const [name, x] of order) {
    const begin = total;
    total += x.size * itemSize[x.dtype];
    offsets.set(name, { begin, end: total });
  }
  const entries = named.map(([name, { dtype, shape }]): [string, SafetensorsEntry] => [
    name,
    { dtype, shape, ...offsets.get(name)! },
  ]);
  const header = formatHeader({ metadata: { ...metadata }, tensors: new Map(entries) }, refuse);
  await writeAtomically(path, async (write) => {
    await write(header);
    for (const [, x] of order) await write(await x.bytes());
  });
}

/** @internal {@link loadSafetensors} and the metadata, in the name of `op`; only those tensors that are `wanted`. */
export async function loadFile(
  op: string,
  path: string,
  { device = 'cpu' }: LoadOptions = {},
  wanted: (name: string) => boolean = () => true,
): Promise<{ metadata: Record<string, string>; tensors: Map<string, Tensor> }> {
  return withFile(op, path, async (file, { metadata, tensors: entries }, dataStart, refuse) => {
    const tensors = new Map<string, Tensor>();
    try {
      for (const [name, entry] of entries) {
        if (!wanted(name)) continue;
        tensors.set(name, await loadTensor(file, name, entry, dataStart, device, refuse));
      }
    } catch (error) {
      for (const x of tensors.values()) x.dispose();
      throw error;
    }
    return { metadata, tensors };
  });
}

async function loadTensor(
  file: FileHandle,
  name: string,
  { dtype, shape, begin, end }: SafetensorsEntry,
  dataStart: number,
  device: string,
  refuse: Refuse,
): Promise<Tensor> {
  const bytes = new Uint8Array(end - begin);
  if ((await readAll(file, bytes, dataStart + begin)) !== bytes.length) refuse('the file was truncated while read');
  if (dtype === 'bool' && bytes.some((byte) => byte > 1)) {
    refuse(`tensor ${quote(name)}: BOOL must be bytes 0 and 1`);
  }
  try {
    return new Tensor(native.fromBytes(bytes, shape, dtype, device));
  } catch (error) {
    if (error instanceof ShapeError) refuse(`tensor ${quote(name)}: ${error.message}`, error);
    throw error;
  }
}

async function withFile<T>(
  op: string,
  path: string,
  use: (file: FileHandle, header: SafetensorsHeader, dataStart: number, refuse: Refuse) => Promise<T>,
): Promise<T> {
  const refuse: Refuse = (detail, cause) => {
    throw new FormatError(op, `${path}: ${detail}`, cause === undefined ? {} : { cause });
  };
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const start = Buffer.alloc(8);
    if ((await readAll(file, start, 0)) !== 8) refuse(`${size} bytes are too few for a header`);
    const length = start.readBigUInt64LE();
    if (length > maxHeaderBytes) refuse(`a header of ${length} bytes, at most ${maxHeaderBytes} are allowed`);
    const dataStart = 8 + Number(length);
    if (dataStart > size) refuse(`the header ends at byte ${dataStart} of ${size}: the file is truncated`);
    const json = new Uint8Array(Number(length));
    if ((await readAll(file, json, 8)) !== json.length) refuse('the file was truncated while read');
    return await use(file, parseHeader(json, size - dataStart, refuse), dataStart, refuse);
  } finally {
    await file.close();
  }
}
