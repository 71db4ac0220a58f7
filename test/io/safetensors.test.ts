// safetensors files: every bit survives, and every file that breaks the format is refused by name.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  type DType,
  FormatError,
  loadSafetensors,
  readSafetensorsHeader,
  saveSafetensors,
  Tensor,
  tensor,
  zeros,
} from '../../lib';
import { native } from '../../lib/native';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flowmap-'));
  path = join(folder, 'x.safetensors');
});
afterEach(() => rmSync(folder, { recursive: true }));

function fromBytes(bytes: number[], shape: number[], dtype: DType): Tensor {
  return new Tensor(native.fromBytes(Uint8Array.from(bytes), shape, dtype, 'cpu'));
}

const everyByte = Array.from({ length: 256 }, (_, i) => (i * 167 + 13) % 256);
// Signalling and quiet NaNs with payloads, infinities, negative zero and subnormals come first, then everything.
const samples: Record<string, Tensor> = {
  float32: fromBytes([1, 0, 0x80, 0x7f, 0x37, 0x13, 0xc0, 0xff, 0, 0, 0, 0x80, ...everyByte], [67], 'float32'),
  float64: fromBytes([1, 2, 3, 4, 5, 6, 0xf0, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0x80, ...everyByte], [2, 17], 'float64'),
  bfloat16: fromBytes([0x81, 0x7f, 0xd5, 0xff, 0x80, 0xff, ...everyByte], [131, 1], 'bfloat16'),
  float16: fromBytes([0x01, 0x7c, 0x55, 0xfe, 0x00, 0xfc, ...everyByte], [1, 131], 'float16'),
  int32: fromBytes([0, 0, 0, 0x80, 255, 255, 255, 0x7f, ...everyByte], [2, 3, 11], 'int32'),
  bool: fromBytes([1, 0, 0, 1, 1, 0, 1], [7], 'bool'),
};

async function describeAll(tensors: Iterable<[string, Tensor]>): Promise<unknown[]> {
  const out: unknown[] = [];
  for (const [name, x] of tensors)
    out.push([name, x.dtype, [...x.shape], Buffer.from(await x.bytes()).toString('hex')]);
  return out;
}

describe('safetensors', () => {
  it('keeps every bit of every dtype, NaN payloads included', async () => {
    await saveSafetensors(path, samples);
    const loaded = await loadSafetensors(path);
    expect(await describeAll(loaded)).toEqual(await describeAll(Object.entries(samples)));
  });

  it('keeps scalars, empty tensors, their order, and any name', async () => {
    const names = [
      'w',
      '',
      '__proto__',
      'constructor',
      '重み.0',
      'a"b\\c\n\u0000',
      '🌀',
      'ﬁ',
      'e\u0301',
      '\u00e9',
      '.',
    ];
    const shapes = [[], [0], [3, 0, 5], [1, 1], [2], [0, 0], [], [1], [4], [2, 2], []];
    const tensors = new Map(
      names.map((name, i) => [
        name,
        tensor(new Float64Array(9).fill(i).slice(0, size(shapes[i]!)), { shape: shapes[i]! }),
      ]),
    );
    tensors.set('flags', zeros([5], { dtype: 'bool' })).set('wide', zeros([3], { dtype: 'float64' }));
    await saveSafetensors(path, tensors);
    const loaded = await loadSafetensors(path);
    expect([...loaded.keys()]).toEqual([...tensors.keys()]);
    expect(await describeAll(loaded)).toEqual(await describeAll(tensors));
  });

  it('aligns the data and each tensor to its elements', async () => {
    await saveSafetensors(path, { a: samples.bool!, b: samples.float16!, c: samples.float64!, d: samples.int32! });
    const { tensors } = await readSafetensorsHeader(path);
    const dataStart = 8 + Number(readFileSync(path).readBigUInt64LE());
    expect(dataStart % 8).toBe(0);
    const widths = { a: 1, b: 2, c: 8, d: 4 };
    for (const [name, { begin }] of tensors) expect(begin % widths[name as keyof typeof widths]).toBe(0);
    expect(tensors.get('c')).toEqual({ dtype: 'float64', shape: [2, 17], begin: 0, end: 272 });
  });

  it('keeps metadata, and gives none where there is none', async () => {
    const metadata = JSON.parse('{"__proto__": "p", "0": "", "ключ": "\\u0000\\ud83c\\udf00"}');
    await saveSafetensors(path, {}, metadata);
    const header = await readSafetensorsHeader(path);
    expect(Object.entries(header.metadata)).toEqual(Object.entries(metadata));
    expect(header.tensors.size).toBe(0);
    await saveSafetensors(path, new Map());
    expect((await readSafetensorsHeader(path)).metadata).toEqual({});
  });

  it('writes the same bytes for the same tensors', async () => {
    await saveSafetensors(path, samples, { note: 'x' });
    const first = readFileSync(path);
    await saveSafetensors(path, samples, { note: 'x' });
    expect(readFileSync(path).equals(first)).toBe(true);
  });

  it('keeps a tensor that takes several reads and writes', async () => {
    const values = new Int32Array(17_000_001); // one chunk is 64 MiB
    const { imul } = Math; // globals are slow to look up under jest
    for (let i = 0; i < values.length; i++) values[i] = imul(i, 0x9e3779b1);
    await saveSafetensors(path, { small: samples.bool!, large: tensor(values) });
    const large = (await loadSafetensors(path)).get('large')!;
    expect(Buffer.compare(await large.bytes(), new Uint8Array(values.buffer))).toBe(0);
    large.dispose();
  }, 60_000);

  it('leaves the old file and no other when saving fails', async () => {
    await saveSafetensors(path, { x: samples.bool! });
    const before = readFileSync(path);
    const gone = zeros([4]);
    const failing = saveSafetensors(path, { a: samples.int32!, gone }); // disposed once the file is begun
    gone.dispose();
    await expect(failing).rejects.toMatchObject({ code: 'ERR_FLOWMAP_DISPOSED' });
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(readdirSync(folder)).toEqual(['x.safetensors']);
  });

  it('refuses what cannot be saved', async () => {
    const refused = { code: 'ERR_FLOWMAP_ARGUMENT' };
    const gone = zeros([4]);
    gone.dispose();
    await expect(saveSafetensors(path, { __metadata__: samples.bool! })).rejects.toMatchObject(refused);
    await expect(saveSafetensors(path, { x: gone })).rejects.toMatchObject(refused);
    await expect(saveSafetensors(path, { x: 1 as never })).rejects.toMatchObject(refused);
    await expect(saveSafetensors(path, {}, { step: 1 as never })).rejects.toMatchObject(refused);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("lets Node's error through for a file that is not there", async () => {
    await expect(loadSafetensors(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

function size(shape: readonly number[]): number {
  return shape.reduce((product, axis) => product * axis, 1);
}

function fileOf(header: string | Uint8Array, dataBytes: number, length?: bigint): Buffer {
  const json = Buffer.from(header as string);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(length ?? BigInt(json.length));
  return Buffer.concat([start, json, Buffer.alloc(dataBytes)]);
}

const f32 = (from: number, to: number, shape = [(to - from) / 4]) =>
  JSON.stringify({ dtype: 'F32', shape, data_offsets: [from, to] });
const entry = (fields: string) => fileOf(`{"x":{${fields}}}`, 8);

const malformed: [string, Buffer, RegExp][] = [
  ['no header', Buffer.alloc(7), /7 bytes are too few/],
  ['a header beyond the file', fileOf('{}', 0, 3n), /truncated/],
  ['a huge header', fileOf('{}', 0, 100_000_001n), /100000001 bytes/],
  ['a header length of 2^64 - 1', fileOf('{}', 0, 2n ** 64n - 1n), /18446744073709551615 bytes/],
  ['invalid UTF-8', fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d), 0), /not UTF-8/],
  ['a byte order mark', fileOf('\ufeff{}', 0), /not JSON/],
  ['an empty header', fileOf('', 0), /not JSON/],
  ['invalid JSON', fileOf('{"x":}', 0), /not JSON/],
  ['deep nesting', fileOf('['.repeat(200_000), 0), /not JSON/],
  ['an array', fileOf('[]', 0), /must be a JSON object/],
  ['null', fileOf('null', 0), /must be a JSON object/],
  ['an entry that is no object', fileOf('{"x":[]}', 0), /"x" must be described by an object/],
  ['an unknown field', entry('"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]'), /"strides"/],
  ['no dtype', entry('"shape":[2],"data_offsets":[0,8]'), /dtype must be a string/],
  ['an unknown dtype', entry('"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]'), /got "F8_E4M3"/],
  ['a dtype named like a method', entry('"dtype":"toString","shape":[8],"data_offsets":[0,8]'), /got "toString"/],
  ['no shape', entry('"dtype":"F32","data_offsets":[0,8]'), /shape must be/],
  ['a negative size', entry('"dtype":"F32","shape":[-2,-1],"data_offsets":[0,8]'), /shape must be/],
  ['a fractional size', entry('"dtype":"F32","shape":[0.5,4],"data_offsets":[0,8]'), /shape must be/],
  ['a size as a string', entry('"dtype":"F32","shape":["2"],"data_offsets":[0,8]'), /shape must be/],
  [
    'sizes whose product overflows',
    entry('"dtype":"F32","shape":[4294967296,4294967296,4294967298],"data_offsets":[0,8]'),
    /takes/,
  ],
  ['too many axes', entry(`"dtype":"F32","shape":[2${',1'.repeat(60)}],"data_offsets":[0,8]`), /at most 8 axes/],
  ['one offset', entry('"dtype":"F32","shape":[2],"data_offsets":[0]'), /two byte offsets/],
  ['a negative offset', entry('"dtype":"F32","shape":[2],"data_offsets":[-8,0]'), /two byte offsets/],
  ['a fractional offset', entry('"dtype":"F32","shape":[2],"data_offsets":[0,8.5]'), /two byte offsets/],
  ['an offset beyond 2^53', entry('"dtype":"F32","shape":[2],"data_offsets":[0,9007199254740993]'), /two byte offsets/],
  ['reversed offsets', entry('"dtype":"F32","shape":[2],"data_offsets":[8,0]'), /reversed/],
  [
    'bytes unlike the shape',
    entry('"dtype":"F32","shape":[3],"data_offsets":[0,8]'),
    /takes 12 bytes, data_offsets give 8/,
  ],
  ['overlapping tensors', fileOf(`{"a":${f32(0, 8)},"b":${f32(4, 12)}}`, 12), /"b" overlaps another at byte 4/],
  ['the same bytes twice', fileOf(`{"a":${f32(0, 8)},"b":${f32(0, 8)}}`, 8), /overlaps/],
  ['a hole', fileOf(`{"a":${f32(0, 4)},"b":${f32(8, 12)}}`, 12), /bytes 4 to 8 belong to no tensor/],
  ['an empty tensor inside another', fileOf(`{"a":${f32(0, 8)},"b":${f32(4, 4)}}`, 8), /overlaps/],
  ['missing data', fileOf(`{"a":${f32(0, 8)}}`, 7), /ends at byte 8 of 7/],
  ['trailing bytes', fileOf(`{"a":${f32(0, 8)}}`, 9), /1 bytes after the last tensor/],
  ['data of no tensor', fileOf('{}', 1), /1 bytes after/],
  ['a name twice', fileOf(`{"a":${f32(0, 8)},"a":${f32(0, 8)}}`, 8), /"a" twice/],
  ['a name twice, spelled differently', fileOf(`{"a":${f32(0, 8)},"\\u0061":${f32(0, 8)}}`, 8), /"a" twice/],
  ['a field twice', entry('"dtype":"F64","dtype":"F32","shape":[2],"data_offsets":[0,8]'), /"dtype" twice/],
  ['a metadata key twice', fileOf('{"__metadata__":{"a":"{","a":""}}', 0), /"a" twice/],
  ['metadata that is no object', fileOf('{"__metadata__":null}', 0), /__metadata__ must be an object/],
  ['metadata that is no string', fileOf('{"__metadata__":{"step":1}}', 0), /"step"/],
  [
    'a bool that is neither 0 nor 1',
    Buffer.concat([fileOf('{"x":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}', 0), Buffer.of(2)]),
    /0 and 1/,
  ],
];

describe('a malformed safetensors file', () => {
  it.each(malformed)('is refused for %s', async (_what, bytes, message) => {
    writeFileSync(path, bytes);
    const error = await loadSafetensors(path).catch((caught) => caught);
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(message);
    expect(error.message.startsWith(`loadSafetensors: ${path}: `)).toBe(true);
    expect(error.message.length).toBeLessThan(400 + path.length);
  });

  it('is not one for padding, order, repeated words in different places, or brackets inside strings', async () => {
    const b = `"b" : ${f32(0, 4, [])}`;
    const a = `"a,{\\"" : ${f32(4, 8)}`;
    writeFileSync(path, fileOf(`{ "__metadata__":{"a":"]}{\\"a\\":","b":"b","dtype":"dtype"} , ${a} , ${b} }   `, 8));
    expect([...(await loadSafetensors(path)).keys()]).toEqual(['a,{"', 'b']);
  });

  it('is refused or read, and nothing else, whatever happens to its bytes', async () => {
    await saveSafetensors(path, samples, { step: '12' });
    const valid = readFileSync(path);
    const headerEnd = 8 + Number(valid.readBigUInt64LE());
    const position = fc.oneof(fc.nat(7), fc.nat(headerEnd), fc.nat(valid.length));
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 6 }),
      fc.constantFrom('0', '-', '9', ',', '"', '{', '}', '[', ']', ':', '\\', 'null', '1e9', '"x":').map(Buffer.from),
    );
    const edit = fc.record({ at: position, remove: fc.nat(12), insert: piece });
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), fc.boolean(), async (edits, repair) => {
        let bytes: Buffer = valid;
        for (const { at, remove, insert } of edits) {
          bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)]);
        }
        // A length that fits again lets the damage reach what comes after the length.
        const length = headerEnd - 8 + bytes.length - valid.length;
        if (repair && bytes.length >= 8 && length >= 0) bytes.writeBigUInt64LE(BigInt(length), 0);
        writeFileSync(path, bytes);
        try {
          for (const x of (await loadSafetensors(path)).values()) x.dispose();
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 1500 },
    );
  }, 60_000);
});
