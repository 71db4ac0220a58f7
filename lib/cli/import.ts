// `flowmap import`: a checkpoint from weights that PyTorch code published, saved as safetensors; checked name by name.
import { ArgumentError } from '../errors';
import { type JsonValue, saveCheckpoint } from '../io/checkpoint';
import { importWeights } from '../io/importWeights';
import { dispose } from '../memory';
import { importedShapes, presetConfig, validateImportedConfig } from '../training/importedConfig';
import { assigned, readObject } from './configFile';
import { type Command, UsageError } from './options';

/** Not trained, so not part of the average. */
const buffers = ['pos_embed'];

/** The preset's configuration under the file's: model, sampling and data key by key. */
function merged(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const result = { ...base };
  const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);
  for (const [key, value] of Object.entries(over)) {
    const both = isObject(result[key]) && isObject(value);
    result[key] = both ? { ...(result[key] as object), ...(value as object) } : value;
  }
  return result;
}

/** What is wrong with the configuration is the command line's fault. */
function usage<Result>(work: () => Result): Result {
  try {
    return work();
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    throw new UsageError(cause.message, { cause });
  }
}

export const importCommand: Command = {
  options: {
    weights: { type: 'string', required: true, value: 'file', help: 'a state dict, saved as safetensors' },
    network: { type: 'string', required: true, value: 'tvm|imm', help: 'whose network it is' },
    preset: { type: 'string', value: 'size', help: 'S/2, B/2, L/2, XL/2 (imm also /4 and /8); default XL/2' },
    config: { type: 'string', value: 'file.json', help: "model, sampling and data where they are not the preset's" },
    set: { type: 'string', multiple: true, value: 'key=value', help: 'one key of it, as model.imageSize=64' },
    'ema-prefix': { type: 'string', value: 'text', help: "how the average's names begin, where the file holds more" },
    prefix: { type: 'string', value: 'text', help: 'what to take off the names then; default: found' },
    out: { type: 'string', required: true, value: 'file', help: 'the checkpoint' },
    quiet: { type: 'boolean', help: 'print errors only' },
  },
  notes:
    'A preset is for ImageNet latents of 4 x 32 x 32 and 1000 classes. For --network tvm, sampling.cfg and\n' +
    'sampling.doScaleParam say how it was trained; for imm, sampling.temb=identity where s itself is embedded.',
  async run(values) {
    const network = values.text('network')!;
    if (network !== 'tvm' && network !== 'imm') throw new UsageError(`--network must be tvm or imm, got '${network}'`);
    const file = values.text('config');
    const over = file === undefined ? {} : await readObject(file);
    const { config, shapes } = usage(() => {
      const base = merged(presetConfig(network, values.text('preset') ?? 'XL/2'), over);
      const config = assigned(base, values.texts('set'), validateImportedConfig);
      return { config, shapes: importedShapes(config) };
    });
    if (config.network !== network) {
      throw new UsageError(`--network is ${network}, but the configuration's network ${config.network}`);
    }
    const { tensors, prefix, skipped } = await importWeights(values.text('weights')!, shapes, {
      emaPrefix: values.text('ema-prefix'),
      prefix: values.text('prefix'),
    });
    try {
      const [model, ema] = [true, false].map(
        (wanted) => new Map([...tensors].filter(([name]) => buffers.includes(name) === wanted)),
      ) as [typeof tensors, typeof tensors];
      const out = values.text('out')!;
      await saveCheckpoint(out, {
        tensors: { model, ema },
        state: { imported: config } as unknown as JsonValue,
      });
      if (!values.flag('quiet')) {
        const without = prefix === '' ? '' : `, without '${prefix}' before their names`;
        const rest = skipped === 0 ? '' : `; ${skipped} others left alone`;
        console.log(`imported ${tensors.size} tensors${without}${rest}: ${out}`);
      }
      return 0;
    } finally {
      dispose([...tensors.values()]);
    }
  },
};
