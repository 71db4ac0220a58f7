// The paths x_t = α x + σ n between data (t = 0) and noise (t = 1), in double precision on the host. Each function is
// written so that it keeps full relative precision at both ends, and is exact there.

/** A path from data to noise. Times are in [0, 1]. */
export interface Schedule {
  /** Share of the data: 1 at t = 0, exactly 0 at t = 1. */
  alpha(t: number): number;
  /** Share of the noise: 0 at t = 0, exactly 1 at t = 1. */
  sigma(t: number): number;
  /** The time at which σ / α is `eta`, for eta in [0, ∞]. */
  etaInverse(eta: number): number;
  /** α_s σ_t − α_t σ_s without cancellation. `gap` is t − s. */
  bridge(gap: number): number;
  /** α_s α_t + σ_s σ_t. */
  overlap(s: number, t: number): number;
  /** α_t² + σ_t². */
  norm(t: number): number;
  /** α σ' − σ α', constant along both paths: −dλ/dt = 2 rate / (α σ). */
  rate: number;
  /** t − η⁻¹(η_t − delta) for 0 ≤ delta ≤ η_t, to full relative precision however small it is. */
  stepBack(t: number, delta: number): number;
}

const halfPi = Math.PI / 2;

// sin and cos of πt/2 from the nearer end: Math.cos(Math.PI / 2) is not 0.
const sine = (t: number) => (t > 0.5 ? Math.cos(halfPi * (1 - t)) : Math.sin(halfPi * t));
const cosine = (t: number) => (t > 0.5 ? Math.sin(halfPi * (1 - t)) : Math.cos(halfPi * t));

/** α = 1 − t, σ = t, the straight path of flow matching; and α = cos(πt/2), σ = sin(πt/2), which preserves variance. */
export const schedules = {
  fm: {
    alpha: (t) => 1 - t,
    sigma: (t) => t,
    etaInverse: (eta) => (eta > 1 ? 1 / (1 + 1 / eta) : eta / (1 + eta)),
    bridge: (gap) => gap,
    overlap: (s, t) => (1 - s) * (1 - t) + s * t,
    norm: (t) => (1 - t) * (1 - t) + t * t,
    rate: 1,
    stepBack: (t, delta) => (delta * (1 - t) * (1 - t)) / (1 - delta * (1 - t)),
  },
  vp_cosine: {
    alpha: cosine,
    sigma: sine,
    etaInverse: (eta) => (eta > 1 ? 1 - Math.atan(1 / eta) / halfPi : Math.atan(eta) / halfPi),
    bridge: sine,
    overlap: (s, t) => cosine(t - s),
    norm: () => 1,
    rate: halfPi,
    stepBack: (t, delta) => Math.atan((delta * cosine(t) * cosine(t)) / (1 - delta * sine(t) * cosine(t))) / halfPi,
  },
} as const satisfies Record<string, Schedule>;

export type ScheduleName = keyof typeof schedules;
