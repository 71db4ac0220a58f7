// Sizes by name. What is too large for a CPU is capped there, and the title of a group says how much of it was left out:
// 'H 1 of 24'.

export interface AttentionSize {
  batch: number;
  heads: number;
  tokens: number;
  dim: number;
}

export interface Preset {
  attention: readonly AttentionSize[];
  /** Tokens of width: what normalisation and linear layers see. */
  rows?: { tokens: number; width: number };
  /** Linear layers, by inputs and outputs. */
  linear?: readonly (readonly [inputs: number, outputs: number])[];
  /** The most of each that is measured on a CPU. */
  cpu?: { batch?: number; heads?: number; tokens?: number; rows?: number };
}

export const presets = {
  // The table of lumalabs/tvm, jvp_utils/README.md. One head of it stands for all: they are independent.
  'tvm-table': {
    attention: [4096, 8192, 16384, 32768].map((tokens) => ({ batch: 1, heads: 24, tokens, dim: 128 })),
    cpu: { heads: 1 },
  },
  // The DiT-XL/2 of Terminal Velocity Matching (lumalabs/tvm, training/dit.py: 18 heads), on images of 256² and of 512²
  // pixels; a batch of 65536 tokens.
  'dit-xl-2': {
    attention: [
      { batch: 256, heads: 18, tokens: 256, dim: 64 },
      { batch: 64, heads: 18, tokens: 1024, dim: 64 },
    ],
    rows: { tokens: 65536, width: 1152 },
    linear: [
      [1152, 3456],
      [1152, 1152],
      [1152, 4608],
      [4608, 1152],
    ],
    cpu: { batch: 8, rows: 16384 },
  },
  // Wan's network of 14 billion parameters (its t2v_14B configuration: dim 5120, ffn_dim 13824, num_heads 40), on 81 frames
  // of 480 × 832 and of 720 × 1280 pixels: patches of 2 × 2 on latents an eighth as wide, 21 of them in time.
  wan: {
    attention: [32760, 75600].map((tokens) => ({ batch: 1, heads: 40, tokens, dim: 128 })),
    rows: { tokens: 75600, width: 5120 },
    linear: [
      [5120, 5120],
      [5120, 13824],
      [13824, 5120],
    ],
    cpu: { heads: 1, tokens: 16384, rows: 2048 },
  },
  // The network of examples/digits: 16 patches, 4 heads, width 96, batches of 32.
  digits: {
    attention: [{ batch: 32, heads: 4, tokens: 16, dim: 24 }],
    rows: { tokens: 512, width: 96 },
    linear: [
      [96, 288],
      [96, 96],
      [96, 384],
      [384, 96],
    ],
  },
} as const satisfies Record<string, Preset>;

export type PresetName = keyof typeof presets;

export const presetNames = Object.keys(presets) as PresetName[];

const capped = (full: number, cap = full) => {
  const value = Math.min(full, cap);
  return { value, text: value === full ? `${full}` : `${value} of ${full}` };
};

/** The preset's attention, as a CPU runs it. Sizes that come out the same under the caps are one, named after the first. */
export function attentionOnCpu(name: PresetName): { title: string; size: AttentionSize }[] {
  const { attention, cpu }: Preset = presets[name];
  const sizes = attention.map((full) => {
    const [batch, heads] = [capped(full.batch, cpu?.batch), capped(full.heads, cpu?.heads)];
    const tokens = capped(full.tokens, cpu?.tokens);
    return {
      title: `B ${batch.text}, H ${heads.text}, S ${tokens.text}, D ${full.dim}`,
      size: { batch: batch.value, heads: heads.value, tokens: tokens.value, dim: full.dim },
    };
  });
  const keys = sizes.map(({ size }) => JSON.stringify(size));
  return sizes.filter((_, i) => keys.indexOf(keys[i]!) === i);
}

/** The preset's rows, as a CPU runs them; null where it has none. */
export function rowsOnCpu(name: PresetName): { rows: number; width: number; text: string } | null {
  const { rows, cpu }: Preset = presets[name];
  if (!rows) return null;
  const { value, text } = capped(rows.tokens, cpu?.rows);
  return { rows: value, width: rows.width, text };
}

/** Whether something of the preset is left out on a CPU. */
export const isCapped = (name: PresetName): boolean => 'cpu' in presets[name];
