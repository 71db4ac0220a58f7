// Fixed-point arithmetic in BigInt with 400 bits after the point: exact references for what cancels in double precision.
const bits = 400n;
const one = 1n << bits;

/** A double, exactly (down to 2^-400). */
export function exact(x: number): bigint {
  let shift = 0n;
  let value = x;
  while (!Number.isInteger(value)) {
    value *= 2;
    shift += 1n;
  }
  return (BigInt(value) << bits) >> shift;
}

/** The nearest double, to a relative 2^-53 or so. */
export function toNumber(x: bigint): number {
  const length = (x < 0n ? -x : x).toString(2).length;
  const drop = BigInt(Math.max(0, length - 64));
  return Number(x >> drop) * 2 ** Number(drop - bits);
}

export const times = (a: bigint, b: bigint): bigint => (a * b) >> bits;
export const over = (a: bigint, b: bigint): bigint => (a << bits) / b;

function squareRoot(x: bigint): bigint {
  const square = x << bits;
  let root = 1n << BigInt((square.toString(2).length / 2 + 1) >> 0);
  for (;;) {
    const next = (root + square / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

export function arctangent(x: bigint): bigint {
  let reduced = x;
  for (let i = 0; i < 8; i++) reduced = over(reduced, one + squareRoot(one + times(reduced, reduced)));
  const square = times(reduced, reduced);
  let [power, sum] = [reduced, 0n];
  for (let n = 1n; power !== 0n && n < 400n; n += 2n) {
    sum += (n & 2n ? -power : power) / n;
    power = times(power, square);
  }
  return sum << 8n;
}

const halfPi = 2n * arctangent(one);

/** tan(πt/2), from the Taylor series of sine and cosine. */
export function quarterTangent(t: bigint): bigint {
  const angle = times(t, halfPi);
  const square = times(angle, angle);
  let [term, sine, cosine] = [one, 0n, 0n];
  for (let n = 0n; n < 120n; n += 2n) {
    cosine += term;
    const odd = times(term, angle) / (n + 1n);
    sine += odd;
    term = -times(term, square) / ((n + 1n) * (n + 2n));
  }
  return over(sine, cosine);
}

/** (2/π) atan η. */
export const quarterArctangent = (eta: bigint): bigint => over(arctangent(eta), halfPi);
export const unit = one;
