// A run's figures as JSON lines: one object a line, which any tool can read while the run goes on.
import { type FileHandle, open } from 'node:fs/promises';
import { ArgumentError, FormatError } from '../errors';
import { writeAtomically } from './atomicFile';

/** One line. Numbers may be NaN or infinite, which JSON has not: they are written as strings. */
export interface MetricsLine {
  step: number;
  [name: string]: number | string | boolean | null;
}

const newline = 10;

/** Appends lines to a file. Steps must not go back, but for {@link MetricsWriter.truncateTo}. */
export class MetricsWriter {
  private pending: string[] = [];
  private file: FileHandle | null = null;
  // Calls that touch the file run one after another, in the order they were made.
  private queue: Promise<void> = Promise.resolve();
  private last = 0;

  constructor(readonly path: string) {}

  /** Takes a line; {@link flush} writes it. */
  append(line: MetricsLine): void {
    const { step } = line;
    if (!Number.isSafeInteger(step) || step < this.last) {
      throw new ArgumentError('MetricsWriter', `step must be an integer of at least ${this.last}, got ${step}`);
    }
    const text = JSON.stringify(line, (_name, value) =>
      typeof value === 'number' && !Number.isFinite(value) ? String(value) : value,
    );
    this.last = step;
    this.pending.push(`${text}\n`);
  }

  /** Resolves when every line appended before is in the file; if that fails none is, and the next flush tries again. */
  flush(): Promise<void> {
    return this.inTurn(async () => {
      if (this.pending.length === 0) return;
      const lines = this.pending;
      this.pending = [];
      try {
        this.file ??= await openWhole(this.path);
        const { size } = await this.file.stat();
        try {
          await this.file.appendFile(lines.join(''));
        } catch (error) {
          await this.file.truncate(size);
          throw error;
        }
      } catch (error) {
        this.pending = [...lines, ...this.pending];
        throw error;
      }
    });
  }

  /**
   * Drops every line of a later step, written or not, and a last line that was torn when its process was killed: a run
   * that goes on from a checkpoint of `step` writes them again. A file that is not there counts as empty.
   *
   * @throws FormatError if another line is no object with a step
   */
  truncateTo(step: number): Promise<void> {
    return this.inTurn(async () => {
      if (!Number.isSafeInteger(step) || step < 0) {
        throw new ArgumentError('MetricsWriter', `step must be an integer of at least 0, got ${step}`);
      }
      await this.release();
      const bytes = await readIfThere(this.path);
      const kept: Buffer[] = [];
      let last = 0;
      let begin = 0;
      for (let number = 1; begin < bytes.length; number++) {
        const end = bytes.indexOf(newline, begin);
        if (end < 0) break; // torn
        const found = this.stepOf(bytes.toString('utf8', begin, end), number);
        if (found <= step) {
          kept.push(bytes.subarray(begin, end + 1));
          last = Math.max(last, found);
        }
        begin = end + 1;
      }
      const rest = Buffer.concat(kept);
      if (rest.length !== bytes.length) await writeAtomically(this.path, (write) => write(rest));
      this.pending = this.pending.filter((line) => {
        const found = (JSON.parse(line) as MetricsLine).step;
        if (found <= step) last = Math.max(last, found);
        return found <= step;
      });
      this.last = last;
    });
  }

  /** Flushes, brings the lines to the disk and lets go of the file; a later append opens it again. */
  async close(): Promise<void> {
    await this.flush();
    await this.inTurn(() => this.release());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async release(): Promise<void> {
    const file = this.file;
    this.file = null;
    try {
      await file?.sync();
    } finally {
      await file?.close();
    }
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.queue.then(work);
    this.queue = done.catch(() => {}); // the caller has the error; those behind go on
    return done;
  }

  private stepOf(text: string, number: number): number {
    const refuse = (cause?: unknown): never => {
      throw new FormatError('MetricsWriter', `${this.path}: line ${number} is no JSON object with a step`, { cause });
    };
    let line: unknown;
    try {
      line = JSON.parse(text);
    } catch (cause) {
      return refuse(cause);
    }
    const { step } = (line ?? {}) as Partial<MetricsLine>;
    return typeof step === 'number' ? step : refuse();
  }
}

/** The file, open to append, without a last line that was torn when an earlier process was killed. */
async function openWhole(path: string): Promise<FileHandle> {
  const file = await open(path, 'a+');
  try {
    const bytes = await file.readFile();
    const end = bytes.lastIndexOf(newline) + 1;
    if (end < bytes.length) await file.truncate(end);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readIfThere(path: string): Promise<Buffer> {
  try {
    const file = await open(path, 'r');
    try {
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}
