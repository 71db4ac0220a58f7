// A bar on stderr for a person who waits: how far, how fast, how long still. Nothing where nobody looks.

/** Where the bar goes: process.stderr, or what a test gives. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export interface ProgressOptions {
  /** What is being done. */
  label: string;
  /** Steps of the whole. */
  total: number;
  /** Steps done before this process began, by a run that is resumed. Default 0. */
  start?: number;
  /** Default false. */
  quiet?: boolean;
  stream?: ProgressStream;
  /** Milliseconds; default `performance.now`. */
  now?: () => number;
}

const barWidth = 24;
const redrawMilliseconds = 100;

/** 59s, 1m 05s, 2h 03m */
export function formatDuration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const pad = (value: number) => String(value).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${pad(Math.floor(whole / 60) % 60)}m`;
}

export class Progress {
  private readonly options: Required<ProgressOptions>;
  private readonly visible: boolean;
  private readonly begun: number;
  private drawn = Number.NEGATIVE_INFINITY;
  private line = '';

  constructor(options: ProgressOptions) {
    const { start = 0, quiet = false, stream = process.stderr, now = () => performance.now() } = options;
    this.options = { label: options.label, total: options.total, start, quiet, stream, now };
    this.visible = stream.isTTY === true && !quiet;
    this.begun = now();
  }

  /** `done` of the total are done; `note` stands behind, a loss for instance. Draws at most ten times a second. */
  update(done: number, note = ''): void {
    if (!this.visible) return;
    const time = this.options.now();
    if (time - this.drawn < redrawMilliseconds && done < this.options.total) return;
    this.drawn = time;
    this.draw(this.describe(done, note, (time - this.begun) / 1000));
  }

  /** Removes the bar for a moment, so that `text` can stand above it. */
  log(text: string): void {
    if (this.options.quiet) return;
    const { line } = this;
    this.clear();
    this.options.stream.write(`${text}\n`);
    if (line !== '') this.draw(line);
  }

  /** Leaves the bar as it is and ends its line. */
  finish(): void {
    if (this.line !== '') this.options.stream.write('\n');
    this.line = '';
  }

  /** Takes the bar away. */
  clear(): void {
    if (this.line !== '') this.options.stream.write('\r\x1b[K');
    this.line = '';
  }

  private describe(done: number, note: string, seconds: number): string {
    const { label, total, start } = this.options;
    const fraction = total > 0 ? Math.min(1, Math.max(0, done / total)) : 1;
    const filled = Math.round(fraction * barWidth);
    const bar = `${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}`;
    const rate = seconds > 0 ? (done - start) / seconds : 0; // what an earlier process did says nothing of this one
    const pace = rate > 0 ? [`${rate >= 10 ? rate.toFixed(0) : rate.toPrecision(2)}/s`] : [];
    const left =
      done >= total ? [formatDuration(seconds)] : rate > 0 ? [`${formatDuration((total - done) / rate)} left`] : [];
    return [`${label} ${bar} ${done}/${total}`, ...pace, ...left, ...(note ? [note] : [])].join('  ');
  }

  private draw(line: string): void {
    // A line that wraps could not be taken back.
    const columns = this.options.stream.columns || 80;
    this.line = [...line].slice(0, columns - 1).join('');
    this.options.stream.write(`\r${this.line}\x1b[K`);
  }
}
