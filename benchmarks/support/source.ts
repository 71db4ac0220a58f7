// Which commit is being checked or measured, also where the tree travelled without .git: --prepare writes it beside the build, with a
// digest of the sources, so that a tree changed since does not pass for that commit.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot as root } from '../../lib/packageRoot';

const noteFile = join(root, 'build', 'gpu-check.json');
const folders = ['csrc', 'lib', 'typings', 'test', 'benchmarks', 'scripts', 'cmake'];

interface Note {
  commit: string;
  digest: string;
}

function digest(): string {
  const hash = createHash('sha256');
  for (const folder of folders) {
    const files = readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(cc|cu|cuh|h|cjs|mjs|ts|txt|cmake|in)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
    for (const file of files) hash.update(file.slice(root.length)).update('\0').update(readFileSync(file)).update('\0');
  }
  return hash.digest('hex').slice(0, 16);
}

function fromGit(): string | undefined {
  if (!existsSync(join(root, '.git'))) return undefined;
  const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
    return `${git('rev-parse', '--short', 'HEAD')}${changed ? '-modified' : ''}`;
  } catch {
    return undefined; // no git here, or a worktree whose repository did not travel
  }
}

export function writeNote(): void {
  const note: Note = { commit: fromGit() ?? 'unknown', digest: digest() };
  writeFileSync(noteFile, `${JSON.stringify(note, null, 2)}\n`);
}

/** FLOWMAP_COMMIT, else git's, else what --prepare wrote, else 'unknown'; '-modified' where the sources are not its. */
export function commit(): string {
  const known = process.env.FLOWMAP_COMMIT || fromGit();
  if (known) return known;
  if (!existsSync(noteFile)) return 'unknown';
  const note = JSON.parse(readFileSync(noteFile, 'utf8')) as Note;
  return note.digest === digest() || note.commit.endsWith('-modified') ? note.commit : `${note.commit}-modified`;
}
