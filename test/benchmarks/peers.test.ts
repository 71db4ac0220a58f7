// The peers' own cases at small sizes: each must give flowmap's results. They need the libraries, so this runs where
// FLOWMAP_PYTHON names an interpreter that has them.
import { Peers } from '../../benchmarks/baselines/peers';
import type { Group } from '../../benchmarks/cpu';
import * as attention from '../../benchmarks/peers/attention.bench';
import * as block from '../../benchmarks/peers/block.bench';
import * as mmd from '../../benchmarks/peers/mmd.bench';
import * as norm from '../../benchmarks/peers/norm.bench';
import * as train from '../../benchmarks/peers/train.bench';

// It does not know the arrays of jest's realm for what they are.
jest.mock('../../benchmarks/baselines/onnxruntime', () => ({ findOnnxRuntime: () => null }));

const network = { imageSize: 8, patchSize: 4, channels: 1, width: 32, depth: 1, heads: 2, classes: 3 };

const families: Record<string, (peers: Peers) => AsyncIterable<Group>> = {
  attention: (peers) => attention.groups(peers, { small: { batch: 1, heads: 2, tokens: 9, dim: 8 } }),
  block: (peers) => block.groups(peers, [{ batch: 2, tokens: 5, width: 16, heads: 2 }]),
  mmd: (peers) => mmd.groups(peers, [[3, 4, 21]]),
  norm: (peers) => norm.groups(peers, [[5, 24]]),
  train: (peers) => train.groups(peers, [['small', network, 8]]),
};

const withPython = process.env.FLOWMAP_PYTHON ? describe : describe.skip;

withPython('the peers that are installed', () => {
  jest.setTimeout(600_000);
  let peers: Peers;
  beforeAll(async () => {
    peers = await Peers.find(2);
  });
  afterAll(() => peers.stop());

  it.each(Object.entries(families))('give the results of flowmap in %s, and times', async (_, groups) => {
    for await (const { subjects, done } of groups(peers)) {
      for (const { name, peerOf, difference, time } of subjects) {
        if (!time) continue;
        expect(subjects.map((subject) => subject.name)).toContain(peerOf);
        expect([name, difference]).toEqual([name, expect.any(Number)]);
        expect(await time(1)).toBeGreaterThan(0);
      }
      await done!();
    }
    expect(peers.found.filter((line) => line.includes('no row'))).toEqual([]);
  });
});
