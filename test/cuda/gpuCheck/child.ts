// Runs a program that may hang or crash: killed with everything it started when its time is over.
import { type ChildProcess, spawn } from 'node:child_process';
import { root } from '../../support/build';

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  timedOut: boolean;
  stdout: string;
  stderr: string;
}

let running: ChildProcess | undefined;

/** Also for main.ts, which is told to end: a group of its own would outlive it. */
export function killRunning(): void {
  try {
    if (running?.pid !== undefined) process.kill(-running.pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

export function runChild(
  program: string,
  args: readonly string[],
  { milliseconds, env = {} }: { milliseconds: number; env?: Record<string, string | undefined> },
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    running = child;
    const ended: Ended = { status: null, signal: null, timedOut: false, stdout: '', stderr: '' };
    const timer = setTimeout(
      () => {
        ended.timedOut = true;
        killRunning();
      },
      Math.max(0, milliseconds),
    );
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      ended.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      ended.stderr += text;
    });
    child.on('error', (error) => {
      clearTimeout(timer);
      running = undefined;
      reject(error);
    });
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      running = undefined;
      resolve({ ...ended, status, signal });
    });
  });
}

/** How it ended, and the last it said. */
export function describeEnd({ status, signal, timedOut, stdout, stderr }: Ended): string {
  const how = timedOut ? 'ran out of time' : `ended with ${signal ?? status}`;
  const lines = (stderr.trim() || stdout.trim()).split('\n').filter((line) => !/^\s+at /.test(line));
  const said = lines.slice(-8).join('\n');
  return said ? `${how}: ${said}` : how;
}

/** Arguments of node that run a file of TypeScript. */
export function typescript(file: string, ...args: string[]): string[] {
  return ['-r', './scripts/typescript.cjs', file, ...args];
}
