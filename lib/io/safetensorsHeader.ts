// The header of a safetensors file: 8 bytes of length, then JSON that names each tensor's dtype, shape and byte range.
// Strict both ways: what is read covers the data exactly once, what is written is the same for the same tensors.
import { type DType, itemSize } from '../dtype';
import { findDuplicateKey } from './uniqueKeys';

export interface SafetensorsEntry {
  dtype: DType;
  shape: readonly number[];
  /** First byte and the one after the last, counted from the end of the header. */
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  metadata: Record<string, string>;
  tensors: Map<string, SafetensorsEntry>;
}

/** Throws the caller's error. */
export type Refuse = (detail: string, cause?: unknown) => never;

/** What other readers take at most. */
export const maxHeaderBytes = 100_000_000;

const dtypes: ReadonlyMap<string, DType> = new Map([
  ['F32', 'float32'],
  ['F64', 'float64'],
  ['BF16', 'bfloat16'],
  ['F16', 'float16'],
  ['I32', 'int32'],
  ['BOOL', 'bool'],
]);
const codes = new Map(Array.from(dtypes, ([code, dtype]) => [dtype, code]));

type JsonObject = Record<string, unknown>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** A name from the file as it may stand in a message: quoted, and short. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}...` : name);
}

/** The header in `bytes`, the JSON alone, of a file with `dataBytes` bytes after it. */
export function parseHeader(bytes: Uint8Array, dataBytes: number, refuse: Refuse): SafetensorsHeader {
  const root = parseJson(bytes, refuse);
  const { __metadata__: metadata = {} } = root;
  if (!isObject(metadata)) return refuse('__metadata__ must be an object');
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') refuse(`__metadata__ must hold strings, got another value for ${quote(key)}`);
  }
  const tensors = new Map<string, SafetensorsEntry>();
  for (const [name, value] of Object.entries(root)) {
    if (name !== '__metadata__') tensors.set(name, parseEntry(name, value, refuse));
  }
  checkCoverage(tensors, dataBytes, refuse);
  return { metadata: metadata as Record<string, string>, tensors };
}

function parseJson(bytes: Uint8Array, refuse: Refuse): JsonObject {
  let text: string;
  let root: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    return refuse('the header is not UTF-8', cause);
  }
  try {
    root = JSON.parse(text);
  } catch (cause) {
    return refuse('the header is not JSON', cause);
  }
  if (!isObject(root)) return refuse('the header must be a JSON object');
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) return refuse(`the header has ${quote(duplicate)} twice`);
  return root;
}

function parseEntry(name: string, entry: unknown, refuse: Refuse): SafetensorsEntry {
  const where = `tensor ${quote(name)}`;
  if (!isObject(entry)) return refuse(`${where} must be described by an object`);
  const { dtype: code, shape, data_offsets: offsets, ...rest } = entry;
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) return refuse(`${where} has an unknown field ${quote(unknown)}`);
  if (typeof code !== 'string') return refuse(`${where}: dtype must be a string`);
  const dtype = dtypes.get(code);
  if (!dtype) return refuse(`${where}: dtype must be one of ${[...dtypes.keys()].join(', ')}, got ${quote(code)}`);
  if (!isSizes(shape)) return refuse(`${where}: shape must be an array of sizes`);
  if (!isSizes(offsets) || offsets.length !== 2) return refuse(`${where}: data_offsets must be two byte offsets`);
  const [begin, end] = offsets as [number, number];
  if (begin > end) return refuse(`${where}: data_offsets must not be reversed, got [${begin}, ${end}]`);
  // A zero anywhere makes the product zero, even where the other sizes alone overflow to infinity.
  const size = shape.includes(0) ? 0 : shape.reduce((product, axis) => product * axis, itemSize[dtype]);
  if (end - begin !== size) {
    const sizes = shape.length > 16 ? `${shape.slice(0, 16).join(', ')}, ...` : shape.join(', ');
    return refuse(`${where}: ${dtype} of shape [${sizes}] takes ${size} bytes, data_offsets give ${end - begin}`);
  }
  return { dtype, shape, begin, end };
}

function checkCoverage(tensors: ReadonlyMap<string, SafetensorsEntry>, dataBytes: number, refuse: Refuse): void {
  const byOffset = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const [name, { begin, end }] of byOffset) {
    if (end > dataBytes) refuse(`tensor ${quote(name)} ends at byte ${end} of ${dataBytes}: the file is truncated`);
    if (begin < covered) refuse(`tensor ${quote(name)} overlaps another at byte ${begin}`);
    if (begin > covered) refuse(`bytes ${covered} to ${begin} belong to no tensor`);
    covered = end;
  }
  if (covered !== dataBytes) refuse(`${dataBytes - covered} bytes after the last tensor`);
}

/** The whole start of a file, length included, padded so that the data begins at a multiple of 8. */
export function formatHeader({ metadata, tensors }: SafetensorsHeader, refuse: Refuse): Uint8Array {
  const members: string[] = []; // put together by hand: an object would move names like "0" to the front
  if (Object.keys(metadata).length > 0) members.push(`"__metadata__":${JSON.stringify(metadata)}`);
  for (const [name, { dtype, shape, begin, end }] of tensors) {
    const entry = { dtype: codes.get(dtype), shape, data_offsets: [begin, end] };
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const json = Buffer.from(`{${members.join(',')}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > maxHeaderBytes) refuse(`names and metadata take ${length} bytes, at most ${maxHeaderBytes} are allowed`);
  const header = Buffer.alloc(8 + length, ' ');
  header.writeBigUInt64LE(BigInt(length), 0);
  header.set(json, 8);
  return header;
}
