// Attention in bfloat16 by the CPU's own instructions, which take terms two at a time and weights rounded: against float64
// beside eager 16-bit mathematics, on sizes that leave tiles and pairs ragged; and what the same is without them.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { features } from '../../lib';
import type { AttentionMasks, AttentionSizes } from '../support/attentionOracle';
import { rounding } from '../support/attentionOracle';
import { attend, attendInBoth, errorsOf, resultNames } from '../support/bfloat16Attention';
import { adversaries, makeAdversarial, operandsOf, relativeNorm, sizesOf } from '../support/fusedAttention';

// A rounding of the result, one of the weights, and in gradients one of the outputs; and room.
const room = { value: 3.5e-3, gradient: 4e-3 } as const;

function check(operands: readonly Float64Array[], sizes: AttentionSizes, masks: AttentionMasks = {}) {
  const excesses = Object.entries(errorsOf(operands, sizes, masks)).filter(([name, { ours, eager }]) => {
    const most = name.startsWith('g') ? Math.max(room.gradient, 1.5 * eager) : Math.max(room.value, 1.2 * eager);
    return !(ours <= most);
  });
  expect(excesses).toEqual([]);
}

/** What attendInBoth gives where oneDNN, and all products with it, may use no more than `isa`. */
function withIsa(isa: string): ReturnType<typeof attendInBoth> {
  const script = join(__dirname, '..', 'support', 'bfloat16Attention.ts');
  const code = `console.log(JSON.stringify(require(${JSON.stringify(script)}).attendInBoth()))`;
  const options = { cwd: join(__dirname, '..', '..'), encoding: 'utf8', maxBuffer: 2 ** 26 } as const;
  const env = { ...process.env, ONEDNN_MAX_CPU_ISA: isa };
  return JSON.parse(
    execFileSync(process.execPath, ['-r', './scripts/typescript.cjs', '-e', code], { ...options, env }),
  );
}

describe('attention in bfloat16 on the CPU', () => {
  it.each([
    [1, 1, 1],
    [3, 2, 5],
    [2, 129, 3],
    [95, 127, 7],
    [97, 129, 33],
    [193, 31, 65],
    [5, 257, 16],
    [130, 140, 127],
    [33, 35, 255],
    [40, 130, 256],
  ])('errs no more than eager mathematics: %i queries, %i keys, %i wide', (queries, keys, dim) => {
    const sizes = sizesOf(queries, keys, dim);
    check(operandsOf(sizes, 'bfloat16'), sizes);
  });

  it.each([
    ['a causal mask', sizesOf(131, 131, 23), { causal: true }],
    ['a causal mask and few keys', sizesOf(150, 41, 32), { causal: true }],
    ['odd numbers of keys per row, none included', sizesOf(99, 135, 40, { batch: 4 }), { lengths: [135, 1, 0, 77] }],
    [
      'all of it, grouped heads and heads inside',
      sizesOf(70, 133, 72, { batch: 2, heads: 2, keyHeads: 1 }),
      { lengths: [133, 67], causal: true, layout: 'BSHD', scale: 0.3 },
    ],
  ] as [string, AttentionSizes, AttentionMasks][])('errs no more with %s', (_, sizes, masks) => {
    check(operandsOf(sizes, 'bfloat16', masks.layout), sizes, masks);
  });

  it.each(adversaries)('errs no more on adversarial data: %s', (adversary) => {
    const sizes = sizesOf(70, 150, 64);
    const operands = operandsOf(sizes, 'bfloat16');
    makeAdversarial(adversary, operands, 'bfloat16', sizes.dim, 8);
    const vanishing = adversary === 'one dominant key' || adversary === 'identical keys';
    for (const [name, { ours, eager }] of Object.entries(errorsOf(operands, sizes))) {
      // Gradients of what hardly matters are made of roundings in any arithmetic.
      if (vanishing && eager > 0.1) continue;
      expect([name, ours <= Math.max(room.gradient, 1.5 * eager)]).toEqual([name, true]);
    }
  });

  it('follows a key of a later tile that leads with a tangent far from all others', () => {
    const sizes = sizesOf(40, 300, 64);
    const operands = operandsOf(sizes, 'bfloat16');
    const ofLeader = (at: number) => Math.floor(at / 64) === 200;
    const change = (i: number, f: (x: number, at: number) => number) => {
      operands[i] = rounding('bfloat16')(operands[i]!.map(f));
    };
    change(0, (x) => 1 + 0.1 * x);
    change(1, (x, at) => (ofLeader(at) ? 1.5 : 0.1 * x));
    change(4, (x, at) => (ofLeader(at) ? 60 : x));
    const { to } = errorsOf(operands, sizes);
    expect(to!.ours).toBeLessThan(room.value);
  });

  it('loses nothing to what keys have in common, however large', () => {
    const sizes = sizesOf(70, 150, 64);
    const operands = operandsOf(sizes, 'bfloat16');
    operands[1] = rounding('bfloat16')(operands[1]!.map((x, at) => x + 64 * Math.sin(1 + (at % 64))));
    for (const { ours } of Object.values(errorsOf(operands, sizes))) expect(ours).toBeLessThan(room.gradient);
  });

  it.each([
    ['a query', 0, Number.NaN],
    ['a key', 1, Number.NaN],
    ['a value', 2, Number.NaN],
    ["a query's tangent", 3, Number.NaN],
    ["a key's tangent", 4, Number.NaN],
    ["a value's tangent", 5, Number.NaN],
    ['a cotangent', 6, Number.NaN],
    ["a tangent's cotangent", 7, Number.NaN],
    ['an infinite query', 0, Number.POSITIVE_INFINITY],
    ['an infinite value', 2, Number.NEGATIVE_INFINITY],
  ])('shows what is not finite where float32 does: %s', (_, which, value) => {
    const sizes = sizesOf(37, 45, 16);
    const operands = operandsOf(sizes, 'bfloat16');
    operands[which]![17 * 16 + 5] = value;
    const where = (dtype: 'bfloat16' | 'float32') =>
      attend(operands, sizes, {}, dtype).map((x) => [...x.keys()].filter((i) => !Number.isFinite(x[i])));
    expect(where('bfloat16')).toEqual(where('float32'));
    expect(where('float32').some((places) => places.length > 0)).toBe(true);
  });

  it('is what float32 gives, rounded, where cores lack the instructions, and close to it where not', () => {
    const [here, capped] = [attendInBoth(), withIsa('AVX2')];
    expect(here.bfloat16).toBe(features().bfloat16);
    expect(capped.bfloat16).toBe(false);
    const round = rounding('bfloat16');
    // O and tO to the bit; the gradients are made of them.
    for (const i of [0, 1]) expect(capped.narrow[i]).toEqual([...round(Float64Array.from(capped.wide[i]!))]);
    for (const { narrow, wide } of [here, capped]) {
      for (const [i, name] of resultNames.entries()) {
        const error = relativeNorm(Float64Array.from(narrow[i]!), Float64Array.from(wide[i]!));
        expect([name, error < room.gradient]).toEqual([name, true]);
      }
    }
  });
});
