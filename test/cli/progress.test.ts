// The progress bar, drawn to a stream and by a clock that the test holds.
import { formatDuration, Progress } from '../../lib/cli/progress';

function terminal(columns = 100, isTTY = true) {
  const written: string[] = [];
  return { written, stream: { isTTY, columns, write: (text: string) => written.push(text) } };
}

describe('Progress', () => {
  it('shows how far, how fast and how long still', () => {
    const { written, stream } = terminal();
    let time = 5000;
    const progress = new Progress({ label: 'train', total: 400, stream, now: () => time });
    progress.update(0);
    time += 10_000;
    progress.update(100, 'loss 0.5');
    time += 30_000;
    progress.update(400);
    progress.finish();
    expect(written).toEqual([
      `\rtrain ${'░'.repeat(24)} 0/400\x1b[K`,
      `\rtrain ${'█'.repeat(6)}${'░'.repeat(18)} 100/400  10/s  30s left  loss 0.5\x1b[K`,
      `\rtrain ${'█'.repeat(24)} 400/400  10/s  40s\x1b[K`,
      '\n',
    ]);
  });

  it('takes its pace from the steps of this process alone', () => {
    const { written, stream } = terminal();
    let time = 0;
    const progress = new Progress({ label: 'train', total: 1000, start: 900, stream, now: () => time });
    time = 20_000;
    progress.update(910);
    expect(written[0]).toContain('910/1000  0.50/s  3m 00s left');
  });

  it('draws at most ten times a second, but always the end', () => {
    const { written, stream } = terminal();
    let time = 0;
    const progress = new Progress({ label: 'x', total: 1000, stream, now: () => time });
    for (let done = 1; done <= 1000; done++, time += 1) progress.update(done);
    expect(written.length).toBe(11);
    expect(written.at(-1)).toContain('1000/1000');
  });

  it('never wraps, and lets text stand above it', () => {
    const { written, stream } = terminal(12);
    const progress = new Progress({ label: 'a long label', total: 2, stream, now: () => 0 });
    progress.log('before');
    progress.update(1);
    progress.log('hello');
    progress.clear();
    progress.finish();
    const bar = '\ra long labe\x1b[K';
    expect(written).toEqual(['before\n', bar, '\r\x1b[K', 'hello\n', bar, '\r\x1b[K']);
  });

  it('is silent without a terminal, but for text, and wholly silent when quiet', () => {
    const pipe = terminal(80, false);
    const quiet = terminal();
    for (const { stream, isQuiet } of [
      { ...pipe, isQuiet: false },
      { ...quiet, isQuiet: true },
    ]) {
      const progress = new Progress({ label: 'x', total: 2, stream, quiet: isQuiet });
      progress.update(1);
      progress.log('text');
      progress.update(2);
      progress.finish();
      progress.clear();
    }
    expect(pipe.written).toEqual(['text\n']);
    expect(quiet.written).toEqual([]);
  });

  it('gives durations as people say them', () => {
    expect([0, 0.2, 59, 59.5, 65, 3599, 3600, 7380].map(formatDuration)).toEqual([
      '0s',
      '1s',
      '59s',
      '1m 00s',
      '1m 05s',
      '59m 59s',
      '1h 00m',
      '2h 03m',
    ]);
  });
});
