// Metrics files: every line arrives once and in order, also when a run is cut off and goes on.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FormatError } from '../../lib';
import { MetricsWriter } from '../../lib/io/metrics';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flowmap-'));
  path = join(folder, 'metrics.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true }));

function steps(): number[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  expect(lines.pop()).toBe('');
  return lines.map((line) => JSON.parse(line).step);
}

describe('MetricsWriter', () => {
  it('writes one object a line, when flushed, and names what JSON has not', async () => {
    await using writer = new MetricsWriter(path);
    writer.append({ step: 1, loss: 0.25, stage: 'a\nb' });
    writer.append({ step: 1, loss: Number.NaN, peak: -Infinity, last: null });
    expect(existsSync(path)).toBe(false);
    await writer.flush();
    expect(readFileSync(path, 'utf8')).toBe(
      '{"step":1,"loss":0.25,"stage":"a\\nb"}\n{"step":1,"loss":"NaN","peak":"-Infinity","last":null}\n',
    );
  });

  it('keeps the order of calls that nobody waits for', async () => {
    const writer = new MetricsWriter(path);
    const expected: number[] = [];
    for (let step = 0; step < 200; step++) {
      writer.append({ step });
      expected.push(step);
      if (step % 3 === 0) void writer.flush();
    }
    await writer.close();
    expect(steps()).toEqual(expected);
    writer.append({ step: 200 });
    await writer.close();
    expect(steps()).toEqual([...expected, 200]);
  });

  it('drops later lines, written or not, and goes on from there', async () => {
    const writer = new MetricsWriter(path);
    for (const step of [0, 5, 10, 10, 15]) writer.append({ step });
    await writer.flush();
    writer.append({ step: 20 });
    await writer.truncateTo(10);
    writer.append({ step: 11 });
    await writer.close();
    expect(steps()).toEqual([0, 5, 10, 10, 11]);
    expect(readdirSync(folder)).toEqual(['metrics.jsonl']);
  });

  it('drops a torn last line, wherever it was torn, when it truncates and when it appends', async () => {
    const whole = '{"step":1,"note":"é"}\n{"step":2,"note":"é"}\n';
    const bytes = Buffer.from(whole);
    for (let length = 0; length <= bytes.length; length++) {
      const before = bytes.subarray(0, length).filter((byte) => byte === 10).length;
      for (const truncates of [true, false]) {
        writeFileSync(path, bytes.subarray(0, length));
        const writer = new MetricsWriter(path);
        if (truncates) await writer.truncateTo(2);
        writer.append({ step: 3 });
        await writer.close();
        expect(steps()).toEqual([...[1, 2].slice(0, before), 3]);
      }
    }
  });

  it('takes a file that is not there for an empty one', async () => {
    const writer = new MetricsWriter(path);
    await writer.truncateTo(7);
    expect(existsSync(path)).toBe(false);
    writer.append({ step: 1 });
    await writer.close();
    expect(steps()).toEqual([1]);
  });

  it('refuses steps that go back or are no integers', async () => {
    const writer = new MetricsWriter(path);
    writer.append({ step: 5 });
    expect(() => writer.append({ step: 4 })).toThrow(/at least 5, got 4/);
    expect(() => writer.append({ step: Number.NaN })).toThrow(/got NaN/);
    await expect(writer.truncateTo(-1)).rejects.toThrow(/at least 0/);
  });

  it.each(['nonsense', 'null', '[]', '{"loss":1}', '{"step":"1"}', ''])(
    'refuses to truncate a file with the line %p and leaves it alone',
    async (line) => {
      writeFileSync(path, `{"step":1}\n${line}\n{"step":2}\n`);
      const before = readFileSync(path, 'utf8');
      const error = await new MetricsWriter(path).truncateTo(1).catch((caught) => caught);
      expect(error).toBeInstanceOf(FormatError);
      expect(error.message).toMatch(/line 2 /);
      expect(readFileSync(path, 'utf8')).toBe(before);
    },
  );

  it('loses no line when a flush fails', async () => {
    mkdirSync(path); // a folder where the file should be
    const writer = new MetricsWriter(path);
    writer.append({ step: 1 });
    await expect(writer.flush()).rejects.toMatchObject({ code: 'EISDIR' });
    writer.append({ step: 2 });
    rmdirSync(path);
    await writer.close();
    expect(steps()).toEqual([1, 2]);
  });
});
