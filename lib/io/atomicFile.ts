// Files that are whole or not there: written under another name in the same folder, brought to the disk, then renamed.
// Reads and writes go in chunks, since Node refuses more than 2 GiB at once.
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const chunkBytes = 64 * 2 ** 20;

/** Appends bytes to the file being written. */
export type Write = (bytes: Uint8Array) => Promise<void>;

/**
 * Replaces the file at `path` by what `produce` writes; until the very end the old file stays as it is. A process that
 * is killed may leave a `.flowmap-*.tmp` beside it, nothing else.
 */
export async function writeAtomically(path: string, produce: (write: Write) => Promise<void>): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.flowmap-${process.pid}-${randomBytes(8).toString('hex')}.tmp`);
  const file = await open(temporary, 'wx');
  try {
    try {
      await produce((bytes) => writeAll(file, bytes));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  // The new name is on the disk only when its folder is.
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(chunkBytes, bytes.length - done));
    done += bytesWritten;
  }
}

/** Fills `into` from `position` on. Returns the bytes read: fewer only where the file ends. */
export async function readAll(file: FileHandle, into: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < into.length) {
    const length = Math.min(chunkBytes, into.length - done);
    const { bytesRead } = await file.read(into, done, length, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}
