// PNG files of grey and RGB images, 8 bits a channel, and many small images laid out in one.
import { deflateSync } from 'node:zlib';
import { ArgumentError, ShapeError } from '../errors';

export interface Image {
  width: number;
  height: number;
  /** 1 is grey, 3 is RGB. */
  channels: 1 | 3;
  /** Row-major, the channels of a pixel together. [height, width, channels] */
  data: Uint8Array;
}

const signature = Buffer.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const colourTypes = { 1: 0, 3: 2 } as const;

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = remainder & 1 ? 0xedb88320 ^ (remainder >>> 1) : remainder >>> 1;
  return remainder;
});

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

function chunk(type: string, data: Uint8Array): Buffer {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length, 0);
  out.write(type, 4, 'latin1');
  out.set(data, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

function checkPositive(op: string, sizes: Record<string, number>, least = 1): void {
  for (const [name, value] of Object.entries(sizes)) {
    if (!Number.isInteger(value) || value < least || value > 0x7fffffff) {
      throw new ArgumentError(op, `${name} must be an integer of at least ${least}, got ${value}`);
    }
  }
}

function checkChannels(op: string, channels: number): asserts channels is 1 | 3 {
  if (channels !== 1 && channels !== 3) throw new ArgumentError(op, `channels must be 1 or 3, got ${channels}`);
}

/** A PNG file of the image. */
export function encodePng({ width, height, channels, data }: Image): Uint8Array {
  checkPositive('encodePng', { width, height });
  checkChannels('encodePng', channels);
  const stride = width * channels;
  if (data.length !== height * stride) {
    throw new ShapeError(
      'encodePng',
      `data must have ${height * stride} bytes for [${height}, ${width}, ${channels}], got ${data.length}`,
    );
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8; // bits a channel
  header[9] = colourTypes[channels];
  const rows = Buffer.alloc(height * (1 + stride)); // each row begins with its filter: 0, none
  for (let y = 0; y < height; y++) rows.set(data.subarray(y * stride, (y + 1) * stride), y * (1 + stride) + 1);
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', new Uint8Array(0)),
  ]);
}

export interface GridOptions {
  count: number;
  height: number;
  width: number;
  /** Default 1. */
  channels?: 1 | 3;
  /** Images a row. Default: as square as it gets. */
  columns?: number;
  /** Pixels around each image, black. Default 2. */
  padding?: number;
  /** Each pixel becomes a square of this many. Default 1. */
  scale?: number;
}

/**
 * Images side by side, row after row. Values are clamped to [0, 1]; NaN throws, as it has no colour.
 *
 * @param images [count, channels, height, width], row-major
 */
export function imageGrid(images: Float32Array, options: GridOptions): Image {
  const { count, height, width, channels = 1, padding = 2, scale = 1 } = options;
  checkPositive('imageGrid', { count, height, width, scale });
  checkPositive('imageGrid', { padding }, 0);
  checkChannels('imageGrid', channels);
  const columns = options.columns ?? Math.ceil(Math.sqrt(count));
  checkPositive('imageGrid', { columns });
  const pixels = height * width;
  if (images.length !== count * channels * pixels) {
    throw new ShapeError(
      'imageGrid',
      `images must have ${count * channels * pixels} values for [${[count, channels, height, width].join(', ')}], ` +
        `got ${images.length}`,
    );
  }
  const across = Math.min(columns, count);
  const outWidth = across * (width * scale + padding) + padding;
  const outHeight = Math.ceil(count / columns) * (height * scale + padding) + padding;
  const data = new Uint8Array(outHeight * outWidth * channels);
  for (let i = 0; i < count; i++) {
    const left = (i % columns) * (width * scale + padding) + padding;
    const top = Math.floor(i / columns) * (height * scale + padding) + padding;
    for (let channel = 0; channel < channels; channel++) {
      const from = (i * channels + channel) * pixels;
      for (let y = 0; y < height * scale; y++) {
        for (let x = 0; x < width * scale; x++) {
          const index = from + Math.floor(y / scale) * width + Math.floor(x / scale);
          data[((top + y) * outWidth + left + x) * channels + channel] = toByte(images[index]!, index);
        }
      }
    }
  }
  return { width: outWidth, height: outHeight, channels, data };
}

function toByte(value: number, index: number): number {
  if (Number.isNaN(value)) throw new ArgumentError('imageGrid', `images must not hold NaN, got one at index ${index}`);
  return Math.round(Math.min(1, Math.max(0, value)) * 255);
}
