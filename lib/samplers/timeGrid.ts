// The times a sampler of Inductive Moment Matching visits (arXiv 2503.07565), from T down to eps.
import { ArgumentError } from '../errors';
import type { ImmMapping } from '../objectives/immMapping';

export const timeGrids = ['uniform', 'edm', 'mid'] as const;

export interface TimeGridOptions {
  mapping: ImmMapping;
  /** Number of steps. Default 1, and for 'mid' what `mid` says. */
  steps?: number;
  /**
   * 'uniform' in t; 'edm': uniform in η^(1/rho); 'mid': T, the times of the η in `mid`, eps. Default 'uniform'.
   */
  grid?: (typeof timeGrids)[number];
  /** η of the inner times of 'mid', falling: steps − 1 of them. Default none. */
  mid?: number | readonly number[];
  /** Exponent of 'edm'. Default 7. */
  rho?: number;
}

/** Holds times to be in [0, 1] and falling, at least two. */
export function checkFalling(op: string, name: string, times: readonly number[]): void {
  if (times.length < 2) throw new ArgumentError(op, `${name} must be at least two, got ${times.length}`);
  for (const [i, time] of times.entries()) {
    if (!(time >= 0 && time <= 1)) throw new ArgumentError(op, `${name} must be in [0, 1], got ${time} at index ${i}`);
    if (i > 0 && time >= times[i - 1]!) {
      throw new ArgumentError(op, `${name} must fall, got ${time} after ${times[i - 1]}`);
    }
  }
}

/**
 * steps + 1 falling times, the first exactly T and the last exactly eps of the mapping.
 *
 * @throws ArgumentError if an option is unknown or out of range, the grid is 'edm' where T = 1 (η is infinite), or the
 * times of `mid` do not lie in (eps, T) and fall
 */
export function timeGrid(options: TimeGridOptions): number[] {
  const op = 'timeGrid';
  const { mapping, grid = 'uniform', mid, rho = 7 } = options;
  if (typeof mapping?.etaInverse !== 'function') {
    throw new ArgumentError(op, `mapping must be what immMapping gives, got ${typeof mapping}`);
  }
  const { eps, T } = mapping.options;
  if (!timeGrids.includes(grid)) {
    const names = timeGrids.map((name) => `'${name}'`).join(', ');
    throw new ArgumentError(op, `grid must be one of ${names}, got '${String(grid)}'`);
  }
  if (mid !== undefined && grid !== 'mid') {
    throw new ArgumentError(op, `mid must be absent unless grid is 'mid', got it with '${grid}'`);
  }
  const inner = mid === undefined ? [] : typeof mid === 'number' ? [mid] : [...mid];
  const { steps = grid === 'mid' ? inner.length + 1 : 1 } = options;
  if (!Number.isInteger(steps) || steps < 1) {
    throw new ArgumentError(op, `steps must be a positive integer, got ${steps}`);
  }
  if (grid === 'mid') {
    if (inner.length !== steps - 1) {
      throw new ArgumentError(op, `mid must hold steps - 1 = ${steps - 1} values of η, got ${inner.length}`);
    }
    const times = [T, ...inner.map((eta) => mapping.etaInverse(eta)), eps];
    checkFalling(op, 'the times of mid', times);
    return times;
  }
  if (!Number.isFinite(rho) || rho <= 0) {
    throw new ArgumentError(op, `rho must be a finite number above 0, got ${rho}`);
  }
  if (grid === 'edm' && T === 1) throw new ArgumentError(op, `T must be below 1 for grid 'edm', got ${T}`);
  const [first, last] = grid === 'edm' ? [mapping.eta(T) ** (1 / rho), mapping.eta(eps) ** (1 / rho)] : [T, eps];
  return Array.from({ length: steps + 1 }, (_, i) => {
    if (i === 0) return T;
    if (i === steps) return eps;
    const at = first + (i / steps) * (last - first);
    return grid === 'edm' ? mapping.etaInverse(at ** rho) : at;
  });
}
