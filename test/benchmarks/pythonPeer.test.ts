// What becomes of the answers of Python peers. A script in their place speaks baselines/protocol.py, so no Python is needed.
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inJax, inPyTorch, Peers } from '../../benchmarks/baselines/peers';
import { type Tensor, tensor } from '../../lib';

// Gives its inputs back as outputs. 'hard' is a case that compilers refuse.
const script = `#!${process.execPath}
const { copyFileSync } = require('node:fs');
const library = process.argv[3].split('/').at(-1);
const answers = (line) => {
  if (line.threads && library === 'jax_peer.py') return { absent: "No module named 'jax'" };
  if (line.threads) return { versions: { PyTorch: '9.8.7' }, notCompiled: NOT_COMPILED };
  if (line.make === 'broken') return { error: 'RuntimeError: broken' };
  if (line.make === 'hard' && line.options.compile) return { refused: 'Unsupported: too hard' };
  if (line.make === 'deadly') process.exit(3);
  if (line.make) copyFileSync(line.inputs, line.inputs + '.kept');
  if (line.make) return { id: 0, kept: (kept = line.inputs + '.kept') };
  if (line.save !== undefined) copyFileSync(kept, line.to);
  return line.time === undefined ? {} : { seconds: 0.25 };
};
let kept;
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  console.log(JSON.stringify(answers(JSON.parse(line))));
});
`;

function interpreter(notCompiled: string | null): string {
  const path = join(mkdtempSync(join(tmpdir(), 'flowmap-test-')), 'python');
  writeFileSync(path, script.replace('NOT_COMPILED', JSON.stringify(notCompiled)));
  chmodSync(path, 0o755);
  return path;
}

const work = { peerOf: 'ours', bytes: 8 };
const named = (...values: number[]) => new Map<string, Tensor>([['x', tensor(Float32Array.from(values))]]);

describe('Python peers', () => {
  const before = process.env.FLOWMAP_PYTHON;
  let peers: Peers | undefined;

  beforeEach(() => {
    process.env.FLOWMAP_PYTHON = interpreter(null);
    jest.spyOn(console, 'log').mockImplementation(() => {});
  });

  afterEach(async () => {
    await peers?.stop();
    peers = undefined;
    if (before === undefined) delete process.env.FLOWMAP_PYTHON;
    else process.env.FLOWMAP_PYTHON = before;
    jest.restoreAllMocks();
  });

  it('give rows beside ours, once their results are the same', async () => {
    peers = await Peers.find(2);
    const rows = await peers.python(
      work,
      [...inPyTorch('echo', {}, 'by hand'), inJax('echo')],
      named(1, 2),
      named(1, 2),
    );
    expect(rows).toMatchObject([
      { name: '  PyTorch, by hand', peerOf: 'ours', bytes: 8, difference: 0 },
      { name: '  PyTorch compiled, by hand', peerOf: 'ours', bytes: 8, difference: 0 },
    ]);
    expect(await rows[0]!.time!(3)).toBe(0.25);
    expect(peers.versions).toMatchObject({ PyTorch: '9.8.7' });
  });

  it('that are absent are named, with the reason', async () => {
    process.env.FLOWMAP_PYTHON = interpreter('no compiler');
    peers = await Peers.find(2);
    expect(peers.found).toEqual(
      expect.arrayContaining([
        'PyTorch 9.8.7, 2 threads',
        'PyTorch compiled: absent (no compiler)',
        expect.stringMatching(/^JAX: absent \(.*No module named 'jax'\)$/),
      ]),
    );
    expect(await peers.python(work, inPyTorch('echo'), named(1), named(1))).toHaveLength(1);
  });

  it('that cannot be started are absent too', async () => {
    process.env.FLOWMAP_PYTHON = '/nowhere/python';
    peers = await Peers.find(2);
    expect(peers.found[0]).toMatch(/^PyTorch: absent \(.*ENOENT\)$/);
    expect(peers.found[1]).toBe('PyTorch compiled: absent (no PyTorch)');
    expect(await peers.python(work, inPyTorch('echo'), named(1), named(1))).toEqual([]);
  });

  it('lose the rows that they refuse, and the reason is kept', async () => {
    peers = await Peers.find(2);
    const rows = await peers.python(work, inPyTorch('hard'), named(1), named(1));
    expect(rows.map(({ name }) => name)).toEqual(['  PyTorch']);
    expect(peers.found).toContain("PyTorch compiled: no row beside 'ours' (Unsupported: too hard)");
  });

  it('stop the run where they fail or their results differ', async () => {
    peers = await Peers.find(2);
    const attempt = (name: string, ours: Map<string, Tensor>) =>
      peers!.python(work, inPyTorch(name), named(1, 2), ours);
    await expect(attempt('broken', named(1, 2))).rejects.toThrow(/pytorch.py: RuntimeError: broken/);
    await expect(attempt('echo', named(1, 2.01))).rejects.toThrow(
      /results of PyTorch differ by 4.5e-3, expected at most/,
    );
    await expect(attempt('echo', named(1, Number.NaN))).rejects.toThrow(/differ by NaN/);
    await expect(attempt('echo', named(1, 2, 3))).rejects.toThrow(/gave 2 elements of x, expected 3/);
    await expect(attempt('echo', new Map([['y', tensor([1])]]))).rejects.toThrow(/PyTorch gave no y/);
    await expect(attempt('deadly', named(1, 2))).rejects.toThrow(/the process ended/);
  });
});
