// Triton kernels of others, called as their checkouts would have it: here modules with the same names that compute attention
// the plain way, on the CPU, where FLOWMAP_PYTHON names an interpreter with PyTorch 2.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { measureTriton } from '../../benchmarks/gpu/triton';

const plain = `import math, torch
def plain(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v
`;

const modules = {
  tvm: ['jvp_utils/functional.py', 'def sdpa_jvp(q, k, v):\n    return plain(q, k, v)\n'],
  jvp_flash_attention: [
    'jvp_flash_attention/jvp_attention.py',
    'class JVPAttn:\n    @staticmethod\n    def fwd_dual(q, k, v):\n        return plain(q, k, v)\n',
  ],
  rcm: [
    'rcm/utils/flash_attention_jvp_triton.py',
    'def attention(q, k, v, tq, tk, tv):\n    return torch.func.jvp(plain, (q, k, v), (tq, tk, tv))\n',
  ],
} as const;

function checkout(path: string, code: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'flowmap-test-'));
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), plain + code);
  return folder;
}

const sizes = [{ batch: 1, heads: 2, tokens: 24, dim: 16 }];
const withPython = process.env.FLOWMAP_PYTHON ? describe : describe.skip;

beforeEach(() => {
  jest.spyOn(console, 'log').mockImplementation(() => {});
});
afterEach(() => {
  jest.restoreAllMocks();
});

it('a checkout that is not there is named as absent', async () => {
  const { peers, rows } = await measureTriton({ checkouts: { tvm: '/nowhere' }, device: 'cpu' });
  expect(peers).toEqual(['tvm: absent (no folder /nowhere)']);
  expect(rows).toEqual([]);
});

withPython('checkouts of Triton kernels', () => {
  it('are timed beside flowmap once their results are the same; what they lack is named', async () => {
    const checkouts = Object.fromEntries(
      Object.entries(modules).map(([name, [path, code]]) => [name, checkout(path, code)]),
    );
    const { peers, rows, versions } = await measureTriton({ checkouts, device: 'cpu', sizes });
    expect(versions.PyTorch).toMatch(/^2/);
    expect(rows.map(({ name, peerOf }) => [name, peerOf])).toEqual([
      ['value with tangent', undefined],
      ['  tvm (Triton)', 'value with tangent'],
      ['  jvp_flash_attention (Triton)', 'value with tangent'],
      ['  rcm (Triton)', 'value with tangent'],
      ['value with tangent, then backward of both', undefined],
      ['  tvm (Triton)', 'value with tangent, then backward of both'],
    ]);
    for (const name of ['jvp_flash_attention', 'rcm']) {
      expect(peers).toContain(
        `${name}: no row beside 'value with tangent, then backward of both' (has no backward of the tangent)`,
      );
    }
  });

  it('that lack what is called, or a GPU, are absent; wrong results end the run', async () => {
    const empty = checkout('other.py', '');
    const lacking = await measureTriton({ checkouts: { tvm: empty, rcm: empty }, device: 'cpu', sizes });
    expect(lacking.peers).toEqual([
      expect.stringMatching(/^tvm: absent \(.*jvp_utils.functional.sdpa_jvp: ModuleNotFoundError: No module named/),
      expect.stringMatching(/^rcm: absent \(.*No module named 'rcm'\)$/),
    ]);
    const wrong = checkout(modules.tvm[0], 'def sdpa_jvp(q, k, v):\n    return 1.1 * plain(q, k, v)\n');
    await expect(measureTriton({ checkouts: { tvm: wrong }, device: 'cpu', sizes })).rejects.toThrow(/tvm differ by/);
    const broken = checkout(modules.tvm[0], "def sdpa_jvp(q, k, v):\n    raise ValueError('too narrow')\n");
    const { peers, rows } = await measureTriton({ checkouts: { tvm: broken }, device: 'cpu', sizes });
    expect(peers).toContain("tvm: no row beside 'value with tangent' (ValueError: too narrow)");
    expect(rows).toEqual([]);
  });
});
