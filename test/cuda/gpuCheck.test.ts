// gpu:check without a GPU: its report, what it reads from other programs, and that a step which fails stops no other.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../support/build';
import { runChild } from './gpuCheck/child';
import { type FileResult, summarise } from './gpuCheck/deviceTests';
import { whatIsMissing } from './gpuCheck/needs';
import { type Report, stem, stepLines, verdict, writeReport } from './gpuCheck/report';
import { sanitizer } from './gpuCheck/sanitizer';
import { readFindings } from './gpuCheck/sanitizerReport';
import { exitStatus, type Outcome, runStep, type Step } from './gpuCheck/step';
import { cudartFolder } from './support/cudart';

const folder = mkdtempSync(join(tmpdir(), 'gpu-check-'));
afterAll(() => rmSync(folder, { recursive: true }));

const head = { emulated: false, device: 'NVIDIA H100 80GB HBM3', date: '2026-01-02T03:04:05.000Z', commit: 'abc1234' };
const context = { emulated: false, file: (suffix: string) => join(folder, suffix) };
const step = (name: string, run: Step['run'], limitSeconds = 10): Step => ({ name, limitSeconds, run });
const ending = (outcome: Outcome) => async () => ({ outcome, summary: [`it ${outcome}`], details: {} });

describe('a report', () => {
  it('is named by device, date and commit, and an emulated one never by a GPU', () => {
    expect(stem(head)).toBe('nvidia-h100-80gb-hbm3-2026-01-02-abc1234');
    expect(stem({ ...head, emulated: true })).toBe('emulated-2026-01-02-abc1234');
    expect(stem({ ...head, device: '', commit: 'abc1234-modified' })).toBe('no-gpu-2026-01-02-abc1234-modified');
  });

  it('is written whole and without the place of the checkout', async () => {
    const done = await runStep(
      step('one', async () => ({ outcome: 'passed', summary: [join(root, 'x')], details: 1 })),
      context,
    );
    const report: Report = { ...head, pending: ['two'], steps: [done] };
    const path = writeReport(join(folder, 'out'), report);
    expect(readdirSync(join(folder, 'out'))).toEqual([`${stem(head)}.json`]);
    const read = JSON.parse(readFileSync(path, 'utf8')) as Report;
    expect(read).toMatchObject({ emulated: false, commit: 'abc1234', pending: ['two'] });
    expect(read.steps[0]).toMatchObject({ name: 'one', outcome: 'passed', summary: ['x'], limitSeconds: 10 });
  });

  it('says in its last line what passed and what did not', async () => {
    const names = { a: 'passed', b: 'failed', c: 'absent' } as const;
    const steps = [];
    for (const [name, outcome] of Object.entries(names))
      steps.push(await runStep(step(name, ending(outcome)), context));
    const report: Report = { ...head, pending: [], steps };
    expect(verdict(report)).toBe('gpu:check (NVIDIA H100 80GB HBM3) passed: a; failed: b; absent: c; exit status 1');
    expect(writeReport(folder, { ...report, only: ['a', 'b'] })).toBe(join(folder, `${stem(head)}.a-b.json`));
    expect(verdict({ ...report, emulated: true })).toMatch(/dry run on the emulator, no result of a GPU/);
    expect(stepLines(steps[1]!)).toEqual([expect.stringMatching(/^b: failed \(\d/), '  it failed']);
  });

  it('ends in 0 only where everything was checked and passed', () => {
    expect(exitStatus(['passed', 'passed'])).toBe(0);
    expect(exitStatus(['passed', 'absent'])).toBe(2);
    expect(exitStatus(['absent', 'timed out'])).toBe(1);
    expect(exitStatus(['failed', 'passed'])).toBe(1);
  });
});

describe('a step', () => {
  it('that throws has failed, with its message', async () => {
    const done = await runStep(
      step('bad', () => Promise.reject(new Error('first\nsecond'))),
      context,
    );
    expect(done).toMatchObject({ outcome: 'failed', summary: ['first', 'second'] });
  });

  it('whose program hangs is out of time, and what the program started is gone', async () => {
    const hang = step(
      'hang',
      async ({ left }) => {
        const inner =
          "require('child_process').spawn('sleep', ['100'], { stdio: 'inherit' }); setInterval(() => {}, 1000)";
        const ended = await runChild(process.execPath, ['-e', inner], { milliseconds: left() });
        expect(ended).toMatchObject({ timedOut: true, signal: 'SIGKILL' });
        throw new Error('no result');
      },
      0.5,
    );
    // The grandchild holds the pipes: this returns only because it was killed too.
    expect((await runStep(hang, context)).outcome).toBe('timed out');
  });
});

describe('the summary of device tests', () => {
  const result = (file: string, failed: FileResult['failed'] = []): FileResult => ({
    file,
    passed: 3,
    failed,
    skipped: ['left out'],
    seconds: 1,
  });
  const ended = { status: 0, signal: null, timedOut: false, stdout: '', stderr: '' };

  it('counts, and shows failures without colours', () => {
    const failure = { title: 'adds', message: '\x1b[31mexpected\x1b[0m 1\n\n    at somewhere' };
    const { outcome, summary } = summarise(['a', 'b'], [result('a'), result('b', [failure])], { ...ended, status: 1 });
    expect(outcome).toBe('failed');
    expect(summary[0]).toBe('6 passed, 1 failed, 2 skipped, in 2 of 2 files');
    expect(summary[1]).toBe('FAILED b: adds: expected 1 |     at somewhere');
  });

  it('is no pass where a file is missing or nothing ran', () => {
    expect(summarise(['a'], [result('a')], ended).outcome).toBe('passed');
    expect(summarise(['a', 'b'], [result('a')], ended).outcome).toBe('failed');
    expect(summarise(['a', 'b'], [result('a')], { ...ended, status: null, timedOut: true }).outcome).toBe('timed out');
    expect(summarise(['a'], [{ ...result('a'), passed: 0 }], ended).outcome).toBe('failed');
  });
});

describe('reading compute-sanitizer', () => {
  it('takes the summary and the first reports', () => {
    const output = `10 families
========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at kernel(float *)+0x40 in x.cu:12
=========     by thread (0,0,0) in block (1,0,0)
=========
========= Invalid __global__ write of size 4 bytes
=========     at kernel(float *)+0x50 in x.cu:13
=========
========= ERROR SUMMARY: 2 errors`;
    const { errors, reports } = readFindings(output);
    expect(errors).toBe(2);
    expect(reports).toHaveLength(2);
    expect(reports[0]).toMatch(/^Invalid __global__ read of size 4 bytes\n\s+at kernel.*\n\s+by thread/);
    expect(readFindings(output, 1).reports).toHaveLength(1);
  });

  it('reads racecheck, and knows when there is no summary', () => {
    const races = '========= COMPUTE-SANITIZER\n========= RACECHECK SUMMARY: 3 hazards displayed (1 error, 2 warnings)';
    expect(readFindings(races)).toEqual({ errors: 1, warnings: 2, reports: [] });
    expect(readFindings('========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors').errors).toBe(0);
    expect(readFindings('Segmentation fault').errors).toBeUndefined();
  });
});

describe('running compute-sanitizer', () => {
  const path = process.env.PATH;
  afterEach(() => {
    process.env.PATH = path;
  });

  it('gives every tool its turn, and passes only where each says that it found nothing', async () => {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    process.env.PATH = `${bin}:${path}`;
    const says = async (script: string) => {
      writeFileSync(join(bin, 'compute-sanitizer'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      return runStep(step('sanitizer', sanitizer), context);
    };
    const clean = await says("echo '========= ERROR SUMMARY: 0 errors'");
    expect(clean.outcome).toBe('passed');
    expect(clean.summary.slice(1)).toEqual(
      ['memcheck', 'racecheck', 'synccheck', 'initcheck'].map((tool) => `${tool}: passed, 0 errors`),
    );
    const report = 'echo "========= Invalid read\n=========\n========= ERROR SUMMARY: 1 error"; exit 86';
    expect(
      await says(`[ $2 = initcheck ] || { echo '========= ERROR SUMMARY: 0 errors'; exit; }; ${report}`),
    ).toMatchObject({
      outcome: 'failed',
      summary: expect.arrayContaining(['synccheck: passed, 0 errors', 'initcheck: failed, 1 errors', 'Invalid read']),
    });
    expect((await says('exit 0')).outcome).toBe('failed');
  });
});

describe('what the machine must have', () => {
  it('is named where it is missing', () => {
    expect(whatIsMissing(false, folder)).toContain('build/Release/libflowmap_cuda.so');
    expect(whatIsMissing(false, folder)).not.toContain('build/cuda-emulated/libflowmap_cuda.so');
  });

  it('has a CUDA runtime that is found beside nvcc, and is not the emulator', () => {
    const place = (...parts: string[]) => {
      const path = join(folder, ...parts);
      mkdirSync(path, { recursive: true });
      writeFileSync(join(path, 'libcudart.so.13'), '');
      return path;
    };
    const [emulator, carried, home] = [place('emulator'), place('carried'), place('cuda', 'lib64')];
    mkdirSync(join(folder, 'cuda', 'bin'), { recursive: true });
    writeFileSync(join(folder, 'cuda', 'bin', 'nvcc'), '');
    const found = (env: NodeJS.ProcessEnv) => cudartFolder({ carried, emulator, env });
    expect(found({ LD_LIBRARY_PATH: `${emulator}:${home}` })).toBe(home);
    expect(found({ CUDA_HOME: join(folder, 'cuda') })).toBe(home);
    expect(found({ PATH: `/nowhere:${join(folder, 'cuda', 'bin')}` })).toBe(home);
    expect(found({ LD_LIBRARY_PATH: emulator })).not.toBe(emulator);
  });
});
