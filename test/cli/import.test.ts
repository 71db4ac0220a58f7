// Importing published weights: what was saved from PyTorch is sampled as the network itself would be, and a file that does
// not fit is refused with everything that is wrong with it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  dispose,
  Generator,
  immMapping,
  loadCheckpoint,
  loadSafetensors,
  nn,
  ones,
  randn,
  sampleFlowMap,
  samplePushforward,
  saveSafetensors,
  type Tensor,
  tensor,
  zeros,
} from '../../lib';
import { importWeights } from '../../lib/io/importWeights';
import { relativeError } from '../support/checkOp';
import { runCli } from '../support/runCli';

const size = { imageSize: 8, patchSize: 4, channels: 1, width: 16, depth: 1, heads: 2, classes: 3 };
const tvmModel: nn.DiTOptions = { ...size, guidance: true, modNorm: true };
const immModel: nn.ImmDiTOptions = { ...size, channels: 4 };

let folder: string;
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowmap-import-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Zero starts hide everything behind them: random values everywhere. */
function shaken<N extends nn.Module>(net: N, seed: number): N {
  const generator = new Generator(seed);
  const values = new Map([...net.namedParameters()].map(([name, p]) => [name, randn(p.shape, { generator }).mul(0.2)]));
  net.loadStateDict(values, { strict: false });
  dispose([...values.values()]);
  return net;
}

/** A state dict as PyTorch would have it, under a prefix. */
const under = (prefix: string, state: ReadonlyMap<string, Tensor>) =>
  new Map([...state].map(([name, x]) => [prefix + name, x]));

async function configFile(name: string, config: object): Promise<string> {
  await writeFile(at(name), JSON.stringify(config));
  return at(name);
}

async function drawn(checkpoint: string, ...args: string[]) {
  const file = at('drawn.safetensors');
  const result = await runCli(['sample', '--checkpoint', checkpoint, '--safetensors', file, '--seed', '4', ...args]);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  return (await loadSafetensors(file)).get('images')!;
}

describe('flowmap import', () => {
  it('takes a network of Terminal Velocity Matching to samples that are its own', async () => {
    const net = shaken(new nn.DiT(tvmModel), 1);
    await saveSafetensors(at('tvm.safetensors'), under('_orig_mod.model.', net.stateDict()));
    const config = await configFile('tvm.json', { model: tvmModel, sampling: { cfg: 2, doScaleParam: true } });
    const out = at('tvm-checkpoint.safetensors');
    const files = ['--weights', at('tvm.safetensors'), '--out', out];
    const result = await runCli(['import', '--network', 'tvm', '--config', config, ...files]);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    const count = net.stateDict().size;
    expect(result.stdout).toBe(`imported ${count} tensors, without '_orig_mod.model.' before their names: ${out}\n`);

    const { tensors, state } = await loadCheckpoint(out);
    expect(state).toMatchObject({ imported: { network: 'tvm', model: { width: 16 }, sampling: { cfg: 2 } } });
    expect([...tensors.model!.keys()]).toEqual(['pos_embed']);
    expect([...tensors.ema!.keys()].sort()).toEqual([...net.namedParameters().keys()].sort());

    const noise = randn([6, 1, 8, 8], { generator: new Generator(4) });
    const labels = tensor(Int32Array.from([0, 1, 2, 0, 1, 2]));
    const asTrained = { steps: 2, labels, beta: tensor(new Float32Array(6).fill(0.5)), doScaleParam: true };
    const png = ['--out', at('tvm.png')];
    const own = await drawn(out, '--count', '6', '--steps', '2', ...png);
    expect([...own.dataSync()]).toEqual([...sampleFlowMap(net, noise, asTrained).dataSync()]);
    const stronger = { ...asTrained, beta: tensor(new Float32Array(6).fill(0.25)) };
    const guided = await drawn(out, '--count', '6', '--steps', '2', '--cfg', '4');
    expect([...guided.dataSync()]).toEqual([...sampleFlowMap(net, noise, stronger).dataSync()]);
  });

  it('takes the average of a network of Inductive Moment Matching, in bfloat16, from a file that has more', async () => {
    const net = shaken(new nn.ImmDiT(immModel), 2);
    const other = shaken(new nn.ImmDiT(immModel), 3);
    const half = new Map([...net.stateDict()].map(([name, x]) => [name, x.to({ dtype: 'bfloat16' })]));
    const both = new Map([...under('ema.model.', half), ...under('net.model.', other.stateDict())]);
    await saveSafetensors(at('imm.safetensors'), both);
    const out = at('imm-checkpoint.safetensors');
    const sets = Object.entries(immModel).flatMap(([key, value]) => ['--set', `model.${key}=${value}`]);
    const more = ['--set', 'sampling.temb=identity', '--ema-prefix', 'ema.', '--preset', 'S/4'];
    const files = ['--weights', at('imm.safetensors'), '--out', out];
    const result = await runCli(['import', '--network', 'imm', ...sets, ...more, ...files]);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toContain(`without 'ema.model.' before their names; ${half.size} others left alone`);
    const { tensors } = await loadCheckpoint(out);
    expect(tensors.ema!.get('blocks.0.attn.qkv.weight')!.dtype).toBe('bfloat16');

    net.loadStateDict(half);
    const latents = randn([3, 4, 8, 8], { generator: new Generator(4) }).mul(0.5);
    const labels = tensor(Int32Array.from([0, 1, 2]));
    const mapping = immMapping({ schedule: 'fm', f: 'euler_fm', sigmaData: 0.5, eps: 0, T: 0.994 });
    const options = { mapping, temb: 'identity' as const, timeScale: 1000, steps: 2, labels };
    for (const [guidance, ...args] of [[1], [1.5, '--cfg', '1.5']] as [number, ...string[]][]) {
      const images = await drawn(out, '--count', '3', '--steps', '2', ...args);
      const { samples } = samplePushforward(net, latents, { ...options, guidance });
      expect(relativeError(images.dataSync(), samples.dataSync())).toBeLessThan(1e-6);
    }
    const png = await runCli(['sample', '--checkpoint', out, '--out', at('no.png')]);
    expect(png.stderr).toContain('a PNG has 1 or 3 channels, and the network 4; --safetensors alone takes them');
    expect(png.code).toBe(2);
  });

  const options = ['--weights', 'not-there.safetensors', '--out', 'o'];
  it.each([
    { args: ['--network', 'dit'], code: 2, says: "--network must be tvm or imm, got 'dit'" },
    { args: ['--network', 'imm', '--preset', 'XL/3'], code: 2, says: "got 'XL/3'; did you mean 'XL/2'?" },
    { args: ['--network', 'tvm'], code: 2, says: 'config.sampling.doScaleParam must be true or false' },
    { args: ['--network', 'imm', '--set', 'model.guidance=true'], code: 2, says: 'config.model.guidance is unknown' },
    { args: ['--network', 'imm', '--set', 'sampling.f=euler'], code: 2, says: "f must be one of 'identity'" },
    { args: ['--network', 'imm', '--set', 'sampling.temb=s'], code: 2, says: "temb must be 'identity' or 'stride'" },
    { args: ['--network', 'imm', '--set', 'model.heads=7'], code: 2, says: 'width must be a multiple of heads' },
    {
      args: ['--network', 'imm', '--set', 'network=tvm'],
      code: 2,
      says: 'import: config.sampling.schedule is unknown',
    },
    { args: ['--network', 'imm'], code: 1, says: 'not-there.safetensors' },
  ])('ends with $code and one line for $args', async ({ args, code, says }) => {
    const result = await runCli(['import', ...options, ...args]);
    expect(result.stderr.trimEnd().split('\n')).toEqual([expect.stringContaining(says)]);
    expect(result.code).toBe(code);
  });

  it('asks for a file to write where sample has none', async () => {
    const { code, stderr } = await runCli(['sample', '--checkpoint', 'c']);
    expect(stderr).toContain('--out <grid.png> or --safetensors is missing');
    expect(code).toBe(2);
  });
});

describe('importWeights', () => {
  const shapes = nn.immDitShapes(immModel);
  const state = () => new Map(new nn.ImmDiT(immModel).stateDict());
  const read = async (tensors: ReadonlyMap<string, Tensor>, prefixes = {}) => {
    await saveSafetensors(at('some.safetensors'), tensors);
    return importWeights(at('some.safetensors'), shapes, prefixes);
  };

  it('keeps the bits of the file', async () => {
    const given = state();
    const { tensors, prefix, skipped } = await read(given);
    expect({ prefix, skipped }).toEqual({ prefix: '', skipped: 0 });
    expect([...tensors.keys()]).toEqual([...shapes.keys()]);
    for (const [name, x] of tensors) expect([...x.dataSync()]).toEqual([...given.get(name)!.dataSync()]);
  });

  it('lists all that is missing, left over or of another shape or type, at once', async () => {
    const given = state();
    given.delete('blocks.0.mlp.fc1.bias');
    given.delete('s_embedder.mlp.0.weight');
    given.set('blocks.1.attn.qkv.bias', ones([48]));
    given.set('blocks.0.attn.qkv.bias', ones([47]));
    given.set('pos_embed', zeros([1, 4, 16], { dtype: 'int32' }));
    await expect(read(given)).rejects.toMatchObject({
      name: 'FormatError',
      message:
        `import: ${at('some.safetensors')}: missing: s_embedder.mlp.0.weight, blocks.0.mlp.fc1.bias; ` +
        `left over: blocks.1.attn.qkv.bias; 'pos_embed' must be floating, got int32, ` +
        `'blocks.0.attn.qkv.bias' must have shape [48], got [47]`,
    });
  });

  it('counts what lies outside the prefix as left over', async () => {
    const given = new Map([...under('model.', state()), ['logvar', ones([1])]]);
    await expect(read(given)).rejects.toThrow(/without the prefix "model.": left over: logvar$/);
    await expect(read(given, { prefix: '' })).rejects.toThrow(/missing: .*; left over: /);
  });

  it('does not choose between two networks', async () => {
    const given = new Map([...under('ema.', state()), ...under('net.', state())]);
    await expect(read(given)).rejects.toThrow(/holds 2 networks: --ema-prefix must name one of "ema\.", "net\."/);
    const { prefix, skipped } = await read(given, { emaPrefix: 'net.' });
    expect({ prefix, skipped }).toEqual({ prefix: 'net.', skipped: shapes.size });
    await expect(read(given, { emaPrefix: 'avg.' })).rejects.toThrow(/none of \d+ names begins with .* "avg\."/);
  });

  it('refuses other files, and weights that are not finite', async () => {
    await expect(read(new Map([['images', ones([2])]]))).rejects.toThrow(
      /not such a network's weights; it has "images"/,
    );
    const given = state();
    given.set(
      'final_layer.linear.bias',
      tensor(Float32Array.from({ length: 64 }, (_, i) => (i === 9 ? Number.NaN : 0))),
    );
    await expect(read(under('module.', given))).rejects.toThrow(/'module.final_layer.linear.bias' is not finite/);
  });
});
