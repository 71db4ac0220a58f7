// The emulator gives what GPUs gave when the instruction wrappers were recorded there, bit for bit where GPUs are exact.
import { build, nvcc } from '../support/programs';
import { type Case, compare, currentHash, differences, type Recording, record, recordings } from './compare';

const hash = currentHash();
const all = recordings();
const current = all.filter((recording) => recording.hash === hash);
const old = all.filter((recording) => recording.hash !== hash);

(nvcc ? describe : describe.skip)('instruction wrappers on the emulator (needs nvcc)', () => {
  let emulated: Recording;

  beforeAll(() => {
    build('cuda_conformance');
    build('simt_cudart');
    emulated = record('emulated');
  }, 600_000);

  it('run, each with its own cases, and give the same bits again', () => {
    expect(new Set(emulated.cases.map(({ name }) => name)).size).toBe(emulated.cases.length);
    expect(emulated.cases.length).toBeGreaterThan(30);
    expect(record('emulated').cases).toEqual(emulated.cases);
  });

  for (const recording of current) {
    it(`agree with ${recording.device}, recorded ${recording.date}`, () => {
      expect(compare(recording, emulated)).toEqual([]);
    });
  }
  for (const recording of old) {
    it.skip(`agree with ${recording.device}: recorded ${recording.date} with other wrappers (npm run gpu:record)`, () => {});
  }
  if (all.length === 0) it.skip('agree with a GPU: none is recorded yet (npm run gpu:record)', () => {});
});

describe('comparing recordings', () => {
  const bits: Case = { name: 'x', as: 'bits', tolerance: 0, words: '00000001 80000000' };
  const floats: Case = { name: 'y', as: 'float32', tolerance: 1e-6, words: '3f800000' };
  const halves: Case = { name: 'z', as: 'halfPairs', tolerance: 0.01, words: 'bc003c00' };

  it('wants bits to be equal', () => {
    expect(differences(bits, bits)).toEqual([]);
    expect(differences(bits, { ...bits, words: '00000001 00000000' })).toEqual([
      'x[1]: expected 80000000, got 00000000',
    ]);
    expect(differences(bits, undefined)).toHaveLength(1);
  });

  it('wants numbers to be near, and never NaN', () => {
    expect(differences(floats, { ...floats, words: '3f800001' })).toEqual([]);
    expect(differences(floats, { ...floats, words: '3f801001' })).toHaveLength(1);
    expect(differences(floats, { ...floats, words: '7fffffff' })).toHaveLength(1);
    expect(differences(halves, { ...halves, words: 'bc013c00' })).toEqual([]);
    expect(differences(halves, { ...halves, words: '3c00bc00' })).toHaveLength(2);
  });
});
