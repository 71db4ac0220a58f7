// Checkpoints: what goes in comes out, and a file killed at any moment is a whole one.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import {
  dispose,
  FormatError,
  type JsonValue,
  loadCheckpoint,
  saveCheckpoint,
  saveSafetensors,
  type Tensor,
  tensor,
} from '../../lib';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flowmap-'));
  path = join(folder, 'run.safetensors');
});
afterEach(() => rmSync(folder, { recursive: true }));

const none = {} as Record<string, Map<string, Tensor>>;

describe('a checkpoint', () => {
  it('gives back every group, name and value', async () => {
    const tensors = {
      params: new Map([
        ['blocks.0.w', tensor([1.5, -2])],
        ['a/b', tensor([[true]])],
        ['', tensor(3)],
      ]),
      '': new Map([['x', tensor([1, 2, 3], { dtype: 'bfloat16' })]]),
      empty: new Map<string, Tensor>(),
    };
    const state = { step: 12, rng: [1, 2], note: 'ü/"' };
    await saveCheckpoint(path, { tensors, state });
    const loaded = await loadCheckpoint(path);
    expect(loaded.state).toEqual(state);
    expect(Object.keys(loaded.tensors)).toEqual(Object.keys(tensors));
    for (const [group, named] of Object.entries(tensors)) {
      expect([...loaded.tensors[group]!.keys()]).toEqual([...named.keys()]);
      for (const [name, x] of named) {
        const y = loaded.tensors[group]!.get(name)!;
        expect([y.dtype, y.shape, await y.bytes()]).toEqual([x.dtype, x.shape, await x.bytes()]);
      }
    }
  });

  it('gives numbers back exactly, the sign of zero included', async () => {
    const state = [0.1, -0, 5e-324, Number.MAX_VALUE, 2 ** 53 + 2, -1 / 3, 1e21, 123456789.01234567];
    await saveCheckpoint(path, { tensors: none, state });
    const loaded = (await loadCheckpoint(path)).state as number[];
    expect(loaded.map((value, i) => Object.is(value, state[i]))).toEqual(state.map(() => true));
  });

  it('gives any JSON value back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue({ noUnicodeString: false }), async (state) => {
        await saveCheckpoint(path, { tensors: none, state: state as JsonValue });
        expect((await loadCheckpoint(path)).state).toEqual(state);
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it('refuses state that JSON cannot say, and groups with a slash', async () => {
    const refused = (state: unknown) =>
      expect(saveCheckpoint(path, { tensors: none, state: state as JsonValue })).rejects.toThrow(/state.* JSON value/);
    for (const value of [Number.NaN, Infinity, undefined, 1n, () => 0, new Map(), new Float32Array(2), new Date(0)]) {
      await refused({ deep: [value] });
    }
    await refused(undefined);
    await refused(new Array(2));
    await expect(saveCheckpoint(path, { tensors: { 'a/b': new Map() }, state: null })).rejects.toThrow(/"a\/b"/);
  });

  it.each<[string, Record<string, string>, RegExp]>([
    ['has no format', {}, /not a checkpoint/],
    ['has another format', { 'flowmap.format': 'pt' }, /not a checkpoint/],
    ['has no state', { 'flowmap.format': 'checkpoint' }, /flowmap.state' is missing/],
    ['has broken state', { 'flowmap.format': 'checkpoint', 'flowmap.state': '{' }, /not JSON/],
    ['has null for state', { 'flowmap.format': 'checkpoint', 'flowmap.state': 'null' }, /groups and a state/],
    ['has no groups', { 'flowmap.format': 'checkpoint', 'flowmap.state': '{"state":1}' }, /groups and a state/],
    [
      'says a thing twice',
      { 'flowmap.format': 'checkpoint', 'flowmap.state': '{"groups":["g"],"state":{"a":1,"a":2}}' },
      /"a" twice/,
    ],
    [
      'has a tensor of no group',
      { 'flowmap.format': 'checkpoint', 'flowmap.state': '{"groups":["h"],"state":1}' },
      /"g\/x" belongs to no group/,
    ],
  ])('is refused where it %s', async (_what, metadata, message) => {
    await saveSafetensors(path, { 'g/x': tensor([1]) }, metadata);
    const error = await loadCheckpoint(path).catch((caught) => caught);
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(message);
    expect(error.message.startsWith(`loadCheckpoint: ${path}: `)).toBe(true);
  });

  it('is whole at any moment its writer may be killed', async () => {
    const root = join(__dirname, '..', '..');
    const script = [join('test', 'support', 'checkpointWriter.ts'), path];
    for (let kill = 0; kill < 20; kill++) {
      const child = spawn(process.execPath, ['-r', './scripts/typescript.cjs', ...script], {
        cwd: root,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const ended = once(child, 'close');
      let reported = '';
      const replaced = new Promise<void>((resolve) => {
        child.stdout!.on('data', (chunk) => {
          reported += chunk;
          if (reported.split('\n').length > 2) resolve();
        });
      });
      await Promise.race([replaced, ended]);
      await sleep(Math.random() * 60);
      child.kill('SIGKILL');
      expect((await ended)[1]).toBe('SIGKILL');

      const { tensors, state } = await loadCheckpoint(path);
      const { step } = state as { step: number };
      expect(step).toBeGreaterThanOrEqual(Math.max(1, reported.trim().split('\n').length - 1)); // none is lost
      const weights = tensors.params!.get('weights')!;
      const average = tensors.ema!.get('average')!;
      expect(weights.shape).toEqual([300, 1000 + (step % 7)]);
      expect((await weights.data()).every((value) => value === step)).toBe(true);
      expect((await average.data()).every((value) => value === step)).toBe(true);
      dispose(tensors);
    }
  }, 180_000);
});
