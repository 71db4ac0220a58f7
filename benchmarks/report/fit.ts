// Time as a power of size.

export interface PowerLaw {
  exponent: number;
  /** Time at size 1. */
  factor: number;
}

/** Least squares of log y on log x; null unless there are two sizes. */
export function fitPower(points: readonly (readonly [x: number, y: number])[]): PowerLaw | null {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const mean = (i: 0 | 1) => logs.reduce((sum, log) => sum + log[i], 0) / logs.length;
  const [mx, my] = [mean(0), mean(1)];
  const variance = logs.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
  if (!(variance > 0)) return null;
  const exponent = logs.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) / variance;
  return { exponent, factor: Math.exp(my - exponent * mx) };
}
