// What the program says of itself and of wrong command lines.
import { runCli } from '../support/runCli';

describe('flowmap', () => {
  it.each([
    { args: [], says: "flowmap: a command is missing; 'flowmap --help' lists them" },
    { args: ['dotcor'], says: "flowmap: unknown command 'dotcor'; did you mean 'doctor'?" },
    { args: ['doctor', '--jsno'], says: "flowmap: unknown option '--jsno'; did you mean '--json'?" },
    { args: ['doctor', '--json=1'], says: "flowmap: --json takes no value, got '1'" },
    { args: ['doctor', 'now'], says: "flowmap: 'now' is not expected here" },
    { args: ['train'], says: 'flowmap: --config <file.json> is missing' },
    { args: ['train', '--config'], says: 'flowmap: --config needs a value: --config <file.json>' },
    { args: ['train', '--config', '--resume'], says: 'flowmap: --config needs a value: --config <file.json>' },
    { args: ['train', '--config', 'a', '--config', 'b'], says: 'flowmap: --config is given twice' },
    { args: ['sample', '--checkpoint', 'c', '--out', 'o', '--steps', '0'], says: "got '0'" },
    { args: ['bench', '--shape', 'wan'], says: "flowmap: unknown option '--shape', expected one of --device, " },
    { args: ['bench', 'nrom'], says: "flowmap: unknown family 'nrom', expected one of " },
    { args: ['sample', '--checkpoint', 'c', '--out', 'o', '--seed', '1.5'], says: "got '1.5'" },
  ])('ends with 2 and one line for $args', async ({ args, says }) => {
    const { code, stdout, stderr } = await runCli(args);
    expect(stderr.trimEnd().split('\n')).toEqual([expect.stringContaining(says)]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('ends with 1 and one line for what fails, and shows the stack where FLOWMAP_DEBUG is set', async () => {
    const args = ['sample', '--checkpoint', 'not-there.safetensors', '--out', 'o.png'];
    const { code, stderr } = await runCli(args);
    expect(code).toBe(1);
    expect(stderr.trimEnd().split('\n')).toEqual([expect.stringContaining('not-there.safetensors')]);
    expect((await runCli(args, { FLOWMAP_DEBUG: '1' })).stderr).toMatch(/\n +at /);
  });

  it('says in one line why the addon cannot be loaded', async () => {
    const { code, stderr } = await runCli(['doctor'], { FLOWMAP_THREADS: 'many' });
    expect(code).toBe(1);
    expect(stderr).toBe("flowmap: threads: FLOWMAP_THREADS must be an integer from 1 to 1024, got 'many'\n");
  });

  it('has help for itself and each command, and a version', async () => {
    const { stdout } = await runCli(['--help']);
    for (const name of ['doctor', 'train', 'sample', 'import', 'bench']) {
      expect(stdout).toContain(`\n  ${name} `);
      const { code, stdout: text } = await runCli([name, '--help']);
      expect(code).toBe(0);
      expect(text).toContain(`Usage: flowmap ${name} `);
    }
    expect((await runCli(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('flowmap doctor', () => {
  it('says what there is, and why there is no CUDA', async () => {
    const { code, stdout, stderr } = await runCli(['doctor'], { FLOWMAP_THREADS: '3' });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^threads +3$/m);
    expect(stdout).toMatch(/^device cpu +available$/m);
    expect(stdout).toMatch(/^CUDA library +\S.+$/m);
    expect(stdout).toMatch(/^device cuda(:0 +\S.+, capability \d+\.\d+| +device 'cuda:0' is not available: .+)$/m);
  });

  it('gives JSON', async () => {
    const report = JSON.parse((await runCli(['doctor', '--json'], { FLOWMAP_THREADS: '3' })).stdout);
    expect(report).toMatchObject({
      node: process.version,
      threads: 3,
      oneDnn: expect.stringMatching(/^\d+\.\d+\.\d+$/),
    });
    expect(report.devices[0]).toEqual({ name: 'cpu', available: true });
    expect(report.devices[1].name).toMatch(/^cuda(:0)?$/);
    expect(report.devices[1].available).toBe(report.cuda.devices.length > 0);
    expect(report.cuda.reason === undefined).toBe(report.cuda.devices.length > 0);
    expect(report.memory.limitBytes).toBeGreaterThan(0);
  });
});
