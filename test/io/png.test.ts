// PNG files are read back here with zlib alone: every chunk, every CRC, every pixel.
import { inflateSync } from 'node:zlib';
import fc from 'fast-check';
import { encodePng, type Image, imageGrid } from '../../lib';

/** Bit by bit from the definition, without a table. */
function crcByDefinition(bytes: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0xedb88320n : crc >> 1n;
  }
  return Number(crc ^ 0xffffffffn);
}

function decode(file: Uint8Array): Image {
  const png = Buffer.from(file);
  expect([...png.subarray(0, 8)]).toEqual([137, 80, 78, 71, 13, 10, 26, 10]);
  const chunks: [string, Buffer][] = [];
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const body = png.subarray(at + 4, at + 8 + length);
    expect(png.readUInt32BE(at + 8 + length)).toBe(crcByDefinition(body));
    chunks.push([body.subarray(0, 4).toString('latin1'), body.subarray(4)]);
    at += 12 + length;
  }
  expect(chunks.map(([type]) => type)).toEqual(['IHDR', 'IDAT', 'IEND']);
  const header = chunks[0]![1];
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const channels = ({ 0: 1, 2: 3 } as const)[header[9] as 0 | 2];
  expect([header.length, header[8], ...header.subarray(10)]).toEqual([13, 8, 0, 0, 0]);
  const rows = inflateSync(chunks[1]![1]);
  const stride = 1 + width * channels;
  expect(rows.length).toBe(height * stride);
  const data = Buffer.concat(
    Array.from({ length: height }, (_, y) => {
      expect(rows[y * stride]).toBe(0);
      return rows.subarray(y * stride + 1, (y + 1) * stride);
    }),
  );
  return { width, height, channels, data: new Uint8Array(data) };
}

describe('encodePng', () => {
  it('writes files that decode to the same pixels', () => {
    const images = fc
      .record({ width: fc.integer({ min: 1, max: 19 }), height: fc.integer({ min: 1, max: 11 }), rgb: fc.boolean() })
      .chain(({ width, height, rgb }) => {
        const length = width * height * (rgb ? 3 : 1);
        return fc
          .uint8Array({ minLength: length, maxLength: length })
          .map((data): Image => ({ width, height, channels: rgb ? 3 : 1, data }));
      });
    fc.assert(fc.property(images, (image) => expect(decode(Buffer.from(encodePng(image)))).toEqual(image)));
  });

  it('takes a view into a larger array', () => {
    const data = Uint8Array.from({ length: 20 }, (_, i) => i).subarray(5, 11);
    expect([...decode(Buffer.from(encodePng({ width: 2, height: 3, channels: 1, data }))).data]).toEqual([
      5, 6, 7, 8, 9, 10,
    ]);
  });

  it('refuses sizes and data that do not fit', () => {
    const data = new Uint8Array(6);
    expect(() => encodePng({ width: 2, height: 2, channels: 1, data })).toThrow(/must have 4 bytes/);
    expect(() => encodePng({ width: 0, height: 2, channels: 1, data })).toThrow(/width/);
    expect(() => encodePng({ width: 1, height: 2.5, channels: 1, data })).toThrow(/height/);
    expect(() => encodePng({ width: 1, height: 3, channels: 2 as never, data })).toThrow(/channels/);
  });
});

describe('imageGrid', () => {
  it('lays images out row by row, padded and enlarged', () => {
    const images = Float32Array.of(0.2, 0.4, 0.6, 0.8, 1, 1); // three images of 1 x 2
    const grid = imageGrid(images, { count: 3, height: 1, width: 2, channels: 1, columns: 2, padding: 1, scale: 2 });
    expect([grid.width, grid.height, grid.channels]).toEqual([11, 7, 1]);
    const [a, b, c, d, e] = [51, 102, 153, 204, 255];
    const blank = new Array(11).fill(0);
    const first = [0, a, a, b, b, 0, c, c, d, d, 0];
    const second = [0, e, e, e, e, 0, 0, 0, 0, 0, 0];
    expect([...grid.data]).toEqual([blank, first, first, blank, second, second, blank].flat());
  });

  it('takes channels apart, as tensors have them, to pixels', () => {
    const images = Float32Array.of(0, 1, 0.2, 0.4, 0.6, 0.8); // [1, 3, 1, 2]
    const grid = imageGrid(images, { count: 1, height: 1, width: 2, channels: 3, padding: 0 });
    expect(grid).toEqual({ width: 2, height: 1, channels: 3, data: Uint8Array.of(0, 51, 153, 255, 102, 204) });
  });

  it('clamps values, is no wider than its images, and is square by default', () => {
    const images = Float32Array.of(-1, 2, Infinity, -Infinity);
    const pixel = { count: 4, height: 1, width: 1, padding: 0 };
    expect(imageGrid(images, { ...pixel, columns: 9 })).toMatchObject({ width: 4, height: 1 });
    const grid = imageGrid(images, pixel);
    expect([grid.width, grid.height, ...grid.data]).toEqual([2, 2, 0, 255, 255, 0]);
  });

  it('refuses NaN and sizes that do not fit', () => {
    const options = { count: 2, height: 1, width: 1 };
    expect(() => imageGrid(Float32Array.of(0, Number.NaN), options)).toThrow(/NaN, got one at index 1/);
    expect(() => imageGrid(Float32Array.of(0), options)).toThrow(/\[2, 1, 1, 1\]/);
    expect(() => imageGrid(Float32Array.of(0, 0), { ...options, columns: 0 })).toThrow(/columns/);
    expect(() => imageGrid(Float32Array.of(0, 0), { ...options, padding: -1 })).toThrow(/padding/);
    expect(() => imageGrid(Float32Array.of(0, 0), { ...options, scale: 0.5 })).toThrow(/scale/);
  });
});
