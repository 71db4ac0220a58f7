// The fused passes of normalisation on every device: value with tangent and the backward of both against float64 on the
// CPU, for rows that threads share in every way, groups of rows and rows inside a projection; absent operands and results.
import { type DType, tensor as onCpu, type Tensor as TensorOf } from '../../lib';
import { native } from '../../lib/native';
import { Tensor } from '../../lib/tensor';
import { relativeError, sample } from '../support/checkOp';
import { on } from '../support/deviceLibrary';
import { describeOnDevices } from '../support/devices';
import { type FloatingDType, floatingDTypes, tolerances } from '../support/tolerances';

type Maybe = TensorOf | null;
type Optional = TensorOf['_handle'] | null;
type Shape = readonly [batch: number, tokens: number, width: number];

const handle = (t: Maybe): Optional => (t ? t._handle : null);
const wrap = (list: readonly unknown[]): Maybe[] => list.map((t) => (t == null ? null : new Tensor(t as never)));
const eps = 0.25; // so much that gradients of one lone element are not lost in it

/** Operands are x, gain, shift; results of the backward gx, ggain, gshift, gtx, gtgain, gtshift. */
interface Pass {
  name: string;
  /** Of gain and shift; a pass without a shift has none. */
  map(shape: Shape): [gain: readonly number[], shift: readonly number[] | null];
  jvp(primals: Maybe[], tangents: Maybe[]): Maybe[];
  vjp(primals: Maybe[], tangents: Maybe[], g: Maybe, h: Maybe, needs: readonly boolean[]): Maybe[];
}

const passes: readonly Pass[] = [
  {
    name: 'rmsNorm',
    map: ([, , width]) => [[width], null],
    jvp: ([x, w], [tx, tw]) => wrap(native.rmsNormJvp(x!._handle, handle(w!), handle(tx!), handle(tw!), eps)),
    vjp: ([x, w], [tx, tw], g, h, [needX, needW, , needTx, needTw]) => {
      const given = [w!, tx!, tw!, g, h].map(handle) as [Optional, Optional, Optional, Optional, Optional];
      const [gx, gw, gtx, gtw] = wrap(
        native.rmsNormJvpVjp(x!._handle, ...given, eps, needX!, needW!, needTx!, needTw!),
      ) as [Maybe, Maybe, Maybe, Maybe];
      return [gx, gw, null, gtx, gtw, null];
    },
  },
  {
    name: 'layerNorm',
    map: ([, , width]) => [[width], [width]],
    jvp: ([x, w, b], [tx, tw, tb]) => {
      const rest = [w!, b!, tx!, tw!, tb!].map(handle) as [Optional, Optional, Optional, Optional, Optional];
      return wrap(native.layerNormJvp(x!._handle, ...rest, eps));
    },
    vjp: ([x, w], [tx, tw], g, h, [a, b, c, d, e, f]) => {
      const given = [w!, tx!, tw!, g, h].map(handle) as [Optional, Optional, Optional, Optional, Optional];
      return wrap(native.layerNormJvpVjp(x!._handle, ...given, eps, a!, b!, c!, d!, e!, f!));
    },
  },
  ...(['rmsNormModulate', 'layerNormModulate'] as const).map(
    (name): Pass => ({
      name,
      map: ([batch, , width]) => [
        [batch, width],
        [batch, width],
      ],
      jvp: ([x, scale, shift], [tx, tscale, tshift]) => {
        const rest = [tx!, tshift!, tscale!].map(handle) as [Optional, Optional, Optional];
        return wrap(native[`${name}Jvp`](x!._handle, shift!._handle, scale!._handle, ...rest, eps));
      },
      vjp: ([x, scale], [tx, tscale], g, h, [needX, needScale, needShift, needTx, needTscale, needTshift]) => {
        const given = [tx!, tscale!, g, h].map(handle) as [Optional, Optional, Optional, Optional];
        const needs = [needX, needShift, needScale, needTx, needTshift, needTscale] as boolean[];
        const [gx, gshift, gscale, gtx, gtshift, gtscale] = wrap(
          native[`${name}JvpVjp`](
            x!._handle,
            scale!._handle,
            ...given,
            eps,
            ...(needs as [boolean, boolean, boolean, boolean, boolean, boolean]),
          ),
        );
        return [gx!, gscale!, gshift!, gtx!, gtscale!, gtshift!];
      },
    }),
  ),
];

const all = [true, true, true, true, true, true];
const values = (t: Maybe) => (t ? Float64Array.from(t.dataSync()) : null);

describeOnDevices('passes of normalisation', (device) => {
  const { tensor, vjp, jvp, splitQkv } = on(device);
  const upload = (shape: readonly number[], seed: number, dtype: DType) =>
    tensor(Float64Array.from(sample(shape, seed).values), { shape, dtype });

  interface Operands {
    primals: Maybe[];
    tangents: Maybe[];
    g: Maybe;
    h: Maybe;
  }
  const operands = (pass: Pass, shape: Shape, dtype: DType): Operands => {
    const [gain, shift] = pass.map(shape);
    const map = (seed: number) => [upload(gain, seed, dtype), shift && upload(shift, seed + 1, dtype)];
    return {
      primals: [upload(shape, 1, dtype), ...map(2)],
      tangents: [upload(shape, 4, dtype), ...map(5)],
      g: upload(shape, 7, dtype),
      h: upload(shape, 8, dtype),
    };
  };
  const wide = (t: Maybe) => t && onCpu(Float64Array.from(t.dataSync()), { shape: t.shape });
  const everything = (pass: Pass, { primals, tangents, g, h }: Operands) =>
    [...pass.jvp(primals, tangents), ...pass.vjp(primals, tangents, g, h, all)].map(values);

  const check = (pass: Pass, shape: Shape, dtypes: readonly FloatingDType[]) => {
    for (const dtype of dtypes) {
      const given = operands(pass, shape, dtype);
      const exact = {
        primals: given.primals.map(wide),
        tangents: given.tangents.map(wide),
        g: wide(given.g),
        h: wide(given.h),
      };
      const expected = everything(pass, exact);
      for (const [i, got] of everything(pass, given).entries()) {
        const error = relativeError(got ?? [], expected[i] ?? []);
        expect([dtype, i, error <= 2 * tolerances[dtype] || error]).toEqual([dtype, i, true]);
      }
    }
  };

  // Rows of few and of many threads, in registers and read again: with centring they are everything a pass can do.
  it.each<readonly [FloatingDType, ...Shape]>([
    ['float32', 2, 1, 2049],
    ['float64', 1, 2, 2049],
    ['float32', 1, 2, 4097],
    ['bfloat16', 1, 2, 4160],
    ['float16', 1, 1, 9001],
    ['bfloat16', 1, 1, 12296],
  ])('are right over long rows in %s at [%i, %i, %i]', (dtype, ...shape) => {
    for (const i of shape[2] > 9000 ? [3] : [0, 3]) check(passes[i]!, shape, [dtype]);
  });

  describe.each(passes.map((pass) => [pass.name, pass] as const))('%s', (_, pass) => {
    it.each<Shape>([
      [5, 3, 1],
      [2, 9, 7],
      [2, 90, 8],
      [3, 40, 64],
      [2, 35, 72],
      [2, 17, 100],
      [1, 300, 33],
      [2, 3, 520],
      [2, 3, 1152],
    ])('is right in every dtype at [%i, %i, %i]', (...shape) => check(pass, shape, floatingDTypes));

    it.each([40, 131, 2049])('takes what is absent for zero and leaves out what is not needed, width %i', (width) => {
      const shape: Shape = width > 1000 ? [1, 1, width] : [2, 5, width];
      const { primals, tangents, g, h } = operands(pass, shape, 'float32');
      const zero = (t: Maybe) => t && tensor(new Float32Array(t.size), { shape: t.shape });
      const pick = (present: boolean, t: Maybe) => (present ? t : null);
      const fill = (present: boolean, t: Maybe) => (present ? t : zero(t));
      for (let present = 0; present < 16; present++) {
        const has = [1, 2, 4, 8].map((bit) => (present & bit) !== 0) as [boolean, boolean, boolean, boolean];
        if ((!has[2] && !has[3]) || (width > 1000 && ![4, 8, 15].includes(present))) continue;
        const some = (of: typeof pick): [Maybe[], Maybe, Maybe] => [
          [of(has[0], tangents[0]!), of(has[1], tangents[1]!), of(has[1], tangents[2]!)],
          of(has[2], g),
          of(has[3], h),
        ];
        const forward = pass.jvp(primals, some(fill)[0]).map(values);
        for (const [i, t] of pass.jvp(primals, some(pick)[0]).entries()) {
          expect(relativeError(t!.dataSync(), forward[i]!)).toBeLessThan(1e-6);
        }
        const expected = pass.vjp(primals, ...some(fill), all).map(values);
        const alone = all.map((_, i) => all.map((_, j) => i === j));
        const few = [all, [true, true, true, false, false, false]];
        for (const needs of width > 1000 ? few : [...few, ...alone]) {
          const got = pass.vjp(primals, ...some(pick), needs);
          expect(got.map((t) => t !== null)).toEqual(needs.map((need, i) => need && expected[i] !== null));
          for (const [i, t] of got.entries()) {
            if (t) expect(relativeError(t.dataSync(), expected[i]!)).toBeLessThan(1e-6);
          }
        }
      }
    });

    it.each<Shape>([
      [2, 21, 12],
      [3, 5, 131],
      [2, 3, 1152],
      [1, 3, 2500],
    ])('is dual to its backward at [%i, %i, %i]', (...shape) => {
      const { primals, tangents, g, h } = operands(pass, shape, 'float64');
      const dot = (a: Maybe, b: Maybe) => {
        const [x, y] = [values(a), values(b)];
        return x && y ? x.reduce((sum, v, i) => sum + v * y[i]!, 0) : 0;
      };
      const ty = pass.jvp(primals, tangents)[1]!;
      const fromValue = pass.vjp(primals, [null, null, null], g, null, [true, true, true, false, false, false]);
      const fromTangent = pass.vjp(primals, tangents, null, h, [false, false, false, true, true, true]).slice(3);
      const pulled = (gradients: Maybe[]) => tangents.reduce((sum, t, i) => sum + dot(gradients[i]!, t!), 0);
      const size = (a: Maybe, b: Maybe) => Math.sqrt(dot(a, a) * dot(b, b));
      expect(Math.abs(dot(g, ty) - pulled(fromValue))).toBeLessThan(1e-12 * size(g, ty));
      expect(Math.abs(dot(h, ty) - pulled(fromTangent))).toBeLessThan(1e-12 * size(h, ty));
    });

    it.each<readonly [DType, ...Shape]>([
      ['bfloat16', 2, 130, 72],
      ['float32', 1, 300, 33],
      ['float16', 2, 33, 520],
      ['float64', 1, 33, 1025],
    ])('has the same bits on every run in %s at [%i, %i, %i]', (dtype, ...shape) => {
      const given = operands(pass, shape, dtype);
      expect(everything(pass, given)).toEqual(everything(pass, given));
    });

    it.each([8, 40, 131, 1152, 4160])('shows a NaN in its own row and in the sums over rows, width %i', (width) => {
      const given = operands(pass, [1, 4, width], 'float32');
      const clean = everything(pass, given);
      const x = Float32Array.from(given.primals[0]!.dataSync());
      x[2 * width + Math.floor(width / 2)] = Number.NaN;
      const spoilt = tensor(x, { shape: [1, 4, width] });
      const got = everything(pass, { ...given, primals: [spoilt, ...given.primals.slice(1)] });
      const [nan, other] = [(row: number) => row === 2, (row: number) => row !== 2];
      for (const [i, result] of got.entries()) {
        if (!result) continue;
        if (result.length === 4 * width) {
          for (let row = 0; row < 4; row++) {
            const part = result.slice(row * width, (row + 1) * width);
            if (nan(row)) expect(part.every(Number.isNaN)).toBe(true);
            if (other(row)) expect(part).toEqual(clean[i]!.slice(row * width, (row + 1) * width));
          }
        } else if (i === 4 || i === 7) {
          expect(result).toEqual(clean[i]); // sums of cotangents alone
        } else {
          expect(result.every(Number.isNaN)).toBe(true);
        }
      }
    });

    it('sums no rows to zero', () => {
      const { primals, tangents, g, h } = operands(pass, [2, 0, 40], 'float32');
      for (const t of pass.vjp(primals, tangents, g, h, all)) {
        expect(t === null || t.size === 0 || t.dataSync().every((v) => v === 0)).toBe(true);
      }
    });
  });

  it.each([
    [3, 8, 7],
    [2, 64, 7],
    [3, 72, 3],
    [2, 100, 5],
    [1, 5, 7],
    [2, 8, 700], // tokens that several blocks share
  ])('splits %i heads of %i features of %i tokens, with tangents and the backward of both', (heads, dim, tokens) => {
    const shape = [2, tokens, 3 * heads * dim];
    for (const dtype of floatingDTypes) {
      const inputs = (seed: number) =>
        [shape, [dim], [dim]].map((s, i) => upload(s, seed + i, dtype)) as [TensorOf, TensorOf, TensorOf];
      const [primals, tangents] = [inputs(1), inputs(4)];
      const cotangents = Array.from({ length: 6 }, (_, i) => upload([2, tokens, heads, dim], 10 + i, dtype));
      const run = (from: TensorOf[], along: TensorOf[], back: TensorOf[]) => {
        const split = (qkv: TensorOf, q: TensorOf, k: TensorOf) => splitQkv(qkv, q, k, { heads });
        const both = (...at: TensorOf[]) => {
          const [y, ty] = jvp(split, at.slice(0, 3) as typeof primals, at.slice(3) as typeof primals);
          return [...y, ...ty];
        };
        const [outputs, pull] = vjp(both, [...from, ...along]);
        return [...outputs, ...pull(back)].map((t) => Float64Array.from(t!.dataSync()));
      };
      const got = run(primals, tangents, cotangents);
      const exact = [primals, tangents, cotangents].map((list) => list.map((t) => wide(t)!)) as TensorOf[][];
      for (const [i, expected] of run(exact[0]!, exact[1]!, exact[2]!).entries()) {
        const error = relativeError(got[i]!, expected);
        expect([dtype, i, error <= 2 * tolerances[dtype] || error]).toEqual([dtype, i, true]);
      }
    }
  });
});
