// The script of one large layer, at sizes that take no time: its counts, its check, its end when memory runs out.

import { countOperations } from '../../examples/layer10b/operations';
import { models, parseOptions } from '../../examples/layer10b/options';
import { reportText } from '../../examples/layer10b/report';
import { sweep } from '../../examples/layer10b/sweep';
import { memory, nn, synchronizeSync } from '../../lib';
import { describeOnDevices } from '../support/devices';

const tiny = '--width 16 --heads 2 --tokens 5,9 --steps 1 --batch 2 --gemm 16'.split(' ');

describe('the operations of a step', () => {
  it('are those counted by hand for two sequences of three tokens', () => {
    // Products of q, k, v, proj (4 × 4 each), MLP (4 × 8, 8 × 4) over 6 tokens, and 6 modulations over 2 samples: value
    // and tangent, a multiplication and an addition each.
    const weights = 4 * 16 + 2 * 32;
    const products = 2 * 2 * (6 * weights + 2 * 6 * 16);
    // For each of 2 × 3 × 3 pairs and 4 channels: q k and p v; tq k, q tk, tp v, p tv.
    const attention = 2 * (2 + 4) * (2 * 9 * 4);
    expect(countOperations({ width: 4, heads: 2, mlpRatio: 2 }, 2, 3)).toEqual({
      forward: products + attention,
      backward: 2 * (products + attention),
    });
  });

  it('count every weight of the block once for each token or sample', () => {
    const block = new nn.DiTBlock(8, 2);
    const weights = [...block.namedParameters()].filter(([, { rank }]) => rank === 2);
    const size = (modulation: boolean) =>
      weights.reduce((sum, [name, w]) => sum + (name.startsWith('adaLN') === modulation ? w.size : 0), 0);
    const [tokens, batch] = [7, 3];
    const { forward } = countOperations({ width: 8, heads: 2, mlpRatio: 4 }, batch, tokens);
    expect(forward).toBe(4 * batch * (tokens * size(false) + size(true)) + 12 * batch * tokens ** 2 * 8);
    block.dispose();
  });

  it('stay exact at 75,600 tokens of the video model', () => {
    const { forward, backward } = countOperations(models['14b-video'], 1, 75600);
    expect(Number.isSafeInteger(forward) && Number.isSafeInteger(backward)).toBe(true);
  });
});

describe('the options', () => {
  it.each([
    [['--model', '12b'], "--model must be one of 10b, 14b-video, small, got '12b'"],
    [['--device', 'tpu'], "--device must be cpu, cuda or cuda:N, got 'tpu'"],
    [['--dtype', 'int8'], "--dtype must be one of bfloat16, float16, float32, float64, got 'int8'"],
    [['--tokens', '64,,256'], "--tokens must be a whole number from 1, got ''"],
    [['--tokens', '0'], "--tokens must be a whole number from 1, got '0'"],
    [['--batch', '1.5'], "--batch must be a whole number from 1, got '1.5'"],
    [['--heads', '5'], '--width must be --heads times a head size of at most 256, got a width of 512 for 5 heads'],
    [['--heads', '1'], '--width must be --heads times a head size of at most 256, got a width of 512 for 1 heads'],
    [['--memory-limit', '-1'], "--memory-limit must be a positive number, got '-1'"],
    [['--token', '4'], "Unknown option '--token'"],
  ])('%j are refused', (args, message) => {
    // '--memory-limit -1' would be taken for two options.
    const given = args[1]!.startsWith('-') ? [args.join('=')] : args;
    expect(() => parseOptions(given)).toThrow(message);
  });

  it('are small on a CPU, in rising order, and say where a model was altered', () => {
    expect(parseOptions([])).toMatchObject({ name: 'small', model: models.small, dtype: 'bfloat16', checkpoint: true });
    expect(parseOptions(['--tokens', '9,3,9', '--width', '64'])).toMatchObject({
      name: 'small, altered',
      model: { width: 64, heads: 8, mlpRatio: 4 },
      tokens: [3, 9],
    });
  });
});

describeOnDevices('the sweep', (device) => {
  const options = (...more: string[]) => parseOptions([...tiny, '--device', device, ...more]);

  it.each([['bfloat16'], ['float16'], ['float32'], ['float64']])(
    'measures each number of tokens and agrees with float64 in %s',
    (dtype) => {
      const outcome = sweep(options('--dtype', dtype));
      expect(outcome.check).toMatchObject({ tokens: 5, passed: true });
      expect(outcome.outOfMemory).toBeNull();
      expect(outcome.rows.map((row) => row.tokens)).toEqual([5, 9]);
      for (const { seconds, memory: held } of outcome.rows) {
        for (const time of Object.values(seconds)) expect(time).toBeGreaterThan(0);
        const { peak, ...parts } = held;
        expect(Object.values(parts).reduce((sum, bytes) => sum + bytes)).toBe(peak);
        for (const bytes of Object.values(parts)) expect(bytes).toBeGreaterThan(0);
      }
      const text = reportText(options(), outcome);
      expect(text).toMatch(/Check at 5 tokens passed/);
      expect(text).toMatch(/^ +9 +\S+ +\S+ +\S+ +\S+ +\S+ +\S+ +\S+ % +\S+$/m);
    },
  );

  it('computes nothing again without a checkpoint, and keeps more', () => {
    const [kept, dropped] = [sweep(options('--no-checkpoint')), sweep(options())];
    expect(kept.check!.passed).toBe(true);
    for (const [i, row] of kept.rows.entries()) {
      expect(row.seconds.recomputation).toBe(0);
      expect(row.memory.kept).toBeGreaterThan(dropped.rows[i]!.memory.kept);
    }
  });

  it.each(['output', 'tangent', 'gradient of attn.qkv.bias'])('finds that the %s is spoilt', (name) => {
    const { check } = sweep(options('--tokens', '5', '--dtype', 'float32'), {
      spoil: (got) => {
        const values = got.get(name)!;
        got.set(name, values.mul(1.001));
      },
    });
    expect(check!.passed).toBe(false);
    const wrong = Object.entries(check!.errors).filter(([, error]) => !(error <= check!.tolerance));
    expect(wrong.map(([which]) => which)).toEqual([name]);
    expect(wrong[0]![1]).toBeCloseTo(1e-3, 5);
  });

  it('finds a NaN', () => {
    const { check } = sweep(options('--tokens', '5'), {
      spoil: (got) => {
        got.set('tangent', got.get('tangent')!.mul(Number.NaN));
      },
    });
    expect(check!.passed).toBe(false);
  });

  it('ends where memory does, with the figures so far, and leaves all as it was', () => {
    synchronizeSync(device);
    const { bytes, limitBytes, tensors } = memory(device);
    const limited = { ...options('--tokens', '5,9,20000'), memoryLimit: bytes + 2 ** 21 };
    const outcome = sweep(limited);
    expect(outcome.rows.map((row) => row.tokens)).toEqual([5, 9]);
    expect(outcome.outOfMemory).toMatchObject({ at: '20000 tokens' });
    expect(reportText(limited, outcome)).toMatch(/Out of memory at 20000 tokens, 2 measured before: .*cannot provide/);
    synchronizeSync(device);
    expect(memory(device)).toMatchObject({ bytes, limitBytes, tensors });
    expect(sweep(options('--tokens', '20')).rows).toHaveLength(1);
  });

  it('says so where there is no room for the layer itself', () => {
    synchronizeSync(device);
    const outcome = sweep({ ...options(), memoryLimit: memory(device).bytes + 2 ** 13 });
    expect(outcome).toMatchObject({ rows: [], check: null, outOfMemory: { at: 'the layer' } });
  });
});
