// What a stage of each objective refuses to be told, in words that name the key, what it takes and what it got.
import { ArgumentError, type Stage, validateConfig } from '../../lib';
import { tinyConfig, tinyStages } from '../support/tinyStages';

const nan = Number.NaN;

/** Refuses a stage of `objective` with `keys` changed: says exactly this, or the like, after the stage's path. */
function refuses(objective: Stage['objective'], keys: Record<string, unknown>, says: string | RegExp): void {
  const config = tinyConfig(tinyStages.flowMatching, { ...tinyStages[objective], ...keys } as Stage);
  let error: unknown;
  try {
    validateConfig(config);
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(ArgumentError);
  const start = 'train: config.stages.1.';
  const { message } = error as Error;
  expect(message.slice(0, start.length)).toBe(start);
  if (typeof says === 'string') expect(message.slice(start.length)).toBe(says);
  else expect(message.slice(start.length)).toMatch(says);
}

/** What no key of the kind takes, and how it is shown. */
const wrong: Record<string, { expected: string; values: [unknown, string][] }> = {
  positive: {
    expected: 'a positive number',
    values: [
      [0, '0'],
      [-1, '-1'],
      [nan, 'NaN'],
      [Number.POSITIVE_INFINITY, 'Infinity'],
      ['1', '"1"'],
      [null, 'null'],
    ],
  },
  notNegative: {
    expected: 'a finite number of at least 0',
    values: [
      [-1e-9, '-1e-9'],
      [nan, 'NaN'],
      [true, 'true'],
    ],
  },
  share: {
    expected: 'in [0, 1]',
    values: [
      [-0.1, '-0.1'],
      [1.1, '1.1'],
      [nan, 'NaN'],
      ['0.5', '"0.5"'],
    ],
  },
  positives: {
    expected: 'a list of positive numbers',
    values: [
      [1, '1'],
      [[], '[]'],
      [[1, 0], '[1,0]'],
      [[1, nan], '[1,NaN]'],
      [['1'], '["1"]'],
    ],
  },
  boolean: {
    expected: 'a boolean',
    values: [
      [1, '1'],
      ['true', '"true"'],
    ],
  },
  particles: {
    expected: 'an integer of at least 1',
    values: [
      [0, '0'],
      [1.5, '1.5'],
    ],
  },
  // A whole number is asked for only where there is a number.
  number: {
    expected: 'a finite number',
    values: [
      [nan, 'NaN'],
      ['4', '"4"'],
    ],
  },
  law: {
    expected: '{ mean, std }, finite numbers, with std of at least 0',
    values: [
      [{ mean: 0 }, '{"mean":0}'],
      [{ mean: 0, std: -1 }, '{"mean":0,"std":-1}'],
      [{ mean: nan, std: 1 }, '{"mean":NaN,"std":1}'],
    ],
  },
  object: {
    expected: 'an object',
    values: [
      [[1, 2], '[1,2]'],
      [0, '0'],
    ],
  },
};

describe('a stage is refused', () => {
  it.each([
    { objective: 'imm', key: 'timeScale', kind: 'positive' },
    { objective: 'imm', key: 'inputScaling', kind: 'boolean' },
    { objective: 'imm', key: 'mapping', kind: 'object' },
    { objective: 'imm', key: 'particles', kind: 'particles' },
    { objective: 'imm', key: 'particles', kind: 'number' },
    { objective: 'imm', key: 'bandwidths', kind: 'positives' },
    { objective: 'imm', key: 'unbiased', kind: 'boolean' },
    { objective: 'consistency', key: 'timeScale', kind: 'positive' },
    { objective: 'consistency', key: 'inputScaling', kind: 'boolean' },
    { objective: 'consistency', key: 'mapping', kind: 'object' },
    { objective: 'meanFlow', key: 'times', kind: 'law' },
    { objective: 'meanFlow', key: 'times', kind: 'object' },
    { objective: 'meanFlow', key: 'equalShare', kind: 'share' },
    { objective: 'meanFlow', key: 'power', kind: 'notNegative' },
    { objective: 'meanFlow', key: 'offset', kind: 'positive' },
    { objective: 'meanFlow', key: 'cfg', kind: 'positive' },
    { objective: 'drifting', key: 'particles', kind: 'particles' },
    { objective: 'drifting', key: 'particles', kind: 'number' },
    { objective: 'drifting', key: 'bandwidths', kind: 'positives' },
    { objective: 'drifting', key: 'step', kind: 'positive' },
    { objective: 'tvm', key: 'cfg', kind: 'positive' },
    { objective: 'tvm', key: 'teacher', kind: 'share' },
    { objective: 'flowMatching', key: 'lr', kind: 'positive' },
    { objective: 'flowMatching', key: 'warmup', kind: 'notNegative' },
    { objective: 'flowMatching', key: 'clip', kind: 'notNegative' },
    { objective: 'flowMatching', key: 'labelDropout', kind: 'share' },
  ] as const)('for $key of $objective that is no $kind', ({ objective, key, kind }) => {
    const { expected, values } = wrong[kind]!;
    for (const [value, shown] of values) {
      refuses(objective, { [key]: value }, `${key} must be ${expected}, got ${shown}`);
    }
  });

  it('for a kernel that its objective does not know, naming the nearest it does', () => {
    const [imm, drifting] = ['laplace, rbf, imq, energy, l2', 'laplace, rbf, imq'];
    refuses('imm', { kernel: 'laplase' }, `kernel must be one of ${imm}, got "laplase"; did you mean 'laplace'?`);
    refuses('imm', { kernel: 2 }, `kernel must be one of ${imm}, got 2`);
    refuses('drifting', { kernel: 'rfb' }, `kernel must be one of ${drifting}, got "rfb"; did you mean 'rbf'?`);
    for (const kernel of ['energy', 'l2', 'constructor']) {
      refuses('drifting', { kernel }, new RegExp(`^kernel must be one of ${drifting}, got "${kernel}"`));
    }
  });

  it.each(['imm', 'consistency'] as const)('for a mapping of %s with a wrong option, which it names', (objective) => {
    const mapping = (options: Record<string, unknown>, says: string) =>
      refuses(objective, { mapping: options }, `mapping: immMapping: ${says}`);
    mapping({ schedule: 'cosine' }, "schedule must be one of 'fm', 'vp_cosine', got 'cosine'");
    mapping({ f: 'edm' }, "f must be one of 'identity', 'simple_edm', 'euler_fm', got 'edm'");
    mapping({ schedule: 'vp_cosine' }, "schedule must be 'fm' where f is 'euler_fm', got 'vp_cosine'");
    mapping({ T: nan }, 'T must be a finite number, got NaN');
    mapping({ T: 1.5 }, 'T must be in (0, 1], got 1.5');
    mapping({ eps: 0.999 }, 'eps must be in [0, T), T being 0.994, got 0.999');
    mapping({ k: '12' }, "k must be a finite number, got '12'");
    mapping({ sigmaData: 0 }, 'sigmaData must be above 0, got 0');
  });

  it.each(['imm', 'drifting'] as const)(
    'for particles of %s that do not divide the batch, the default too',
    (objective) => {
      refuses(objective, { particles: 3 }, 'particles must be a divisor of the batch of 4, got 3');
      refuses(objective, { particles: 8 }, 'particles must be a divisor of the batch of 4, got 8');
      const [batch, standard] = objective === 'imm' ? [6, 4] : [8, 16];
      const says = `particles must be a divisor of the batch of ${batch}, got ${standard}, the default`;
      refuses(objective, { particles: undefined, batch }, says);
    },
  );

  it('for options that contradict each other', () => {
    refuses('imm', { particles: 128, batch: 128 }, 'particles must be at most 64, got 128');
    refuses('imm', { particles: 1 }, 'unbiased must be left out with a single particle, got true');
    refuses('imm', { kernel: 'l2', bandwidths: undefined }, "unbiased must be left out with the kernel 'l2', got true");
    for (const kernel of ['l2', 'energy']) {
      refuses(
        'imm',
        { kernel, unbiased: false },
        `bandwidths must be left out with the kernel '${kernel}', got [0.5,1]`,
      );
    }
  });

  it.each(['tvm', 'meanFlow'] as const)('for guidance of %s where the network knows no classes', (objective) => {
    const config = tinyConfig({ ...tinyStages[objective], cfg: 2 });
    const classless = { ...config, model: { ...config.model, classes: 0 } };
    expect(() => validateConfig(classless)).toThrow(
      'train: config.stages.0.cfg must be 1 for a network without classes, got 2',
    );
    expect(() => validateConfig({ ...classless, stages: [{ ...tinyStages[objective], cfg: 1 }] })).not.toThrow();
  });

  it('for keys of other objectives, and for objectives that are none', () => {
    const unknown = (objective: Stage['objective'], key: string, nearest: string) =>
      refuses(objective, { [key]: 1 }, `${key} is unknown; did you mean '${nearest}'?`);
    refuses('consistency', { particles: 1 }, /^particles is unknown/);
    refuses('drifting', { unbiased: true }, /^unbiased is unknown/);
    unknown('meanFlow', 'equalshare', 'equalShare');
    unknown('drifting', 'steps_', 'steps');
    unknown('imm', 'bandwidth', 'bandwidths');
    const all = 'flowMatching, tvm, imm, consistency, meanFlow, drifting';
    refuses(
      'imm',
      { objective: 'meanflow' },
      `objective must be one of ${all}, got "meanflow"; did you mean 'meanFlow'?`,
    );
    refuses('imm', { objective: 'toString' }, /^objective must be one of .*, got "toString"/);
    refuses('imm', { objective: undefined }, `objective must be one of ${all}, got undefined`);
    refuses('imm', { lr: undefined }, 'lr must be a positive number, got undefined');
  });
});

it('a configuration is accepted with each stage as it is, and is not changed', () => {
  const config = tinyConfig(...Object.values(tinyStages));
  const before = structuredClone(config);
  expect(validateConfig(config)).toBe(config);
  expect(config).toEqual(before);
});

it('a configuration that is no object is refused', () => {
  for (const value of [null, [], 'train', nan])
    expect(() => validateConfig(value)).toThrow(/^train: config must be an object, got /);
});
