// A training configuration from a JSON file, with single keys set from the command line.
import { readFile } from 'node:fs/promises';
import { ArgumentError } from '../errors';
import { nearestName } from '../nearestName';
import { type TrainConfig, validateConfig } from '../training/config';
import { UsageError } from './options';

/** A key as `stages.0.steps`, and its value: JSON, or else the text itself. */
function parseAssignment(text: string): { path: string[]; value: unknown } {
  const equals = text.indexOf('=');
  const path = text.slice(0, Math.max(equals, 0)).split('.');
  if (path.some((part) => part === '')) throw new UsageError(`--set must be key=value, got '${text}'`);
  const value = text.slice(equals + 1);
  try {
    return { path, value: JSON.parse(value) as unknown };
  } catch {
    return { path, value };
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Sets one key in place. Which names there are is for the validation to say, but a list must have the place. */
function assign(config: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let at = config;
  for (const [i, key] of path.entries()) {
    const where = path.slice(0, i).join('.');
    if (Array.isArray(at) && !(/^\d+$/.test(key) && Number(key) < at.length)) {
      const places = at.map((_, place) => String(place));
      const advice = places.length > 0 ? `; did you mean '${nearestName(key, places)}'?` : '';
      throw new UsageError(`--set ${path.join('.')}: ${where} has ${at.length} entries and no '${key}'${advice}`);
    }
    const last = i === path.length - 1;
    const next = Object.hasOwn(at, key) ? at[key] : {};
    if (!last && !isObject(next)) {
      throw new UsageError(`--set ${path.join('.')}: ${path.slice(0, i + 1).join('.')} is ${JSON.stringify(next)}`);
    }
    // Defined, not assigned: '__proto__' too must be a key of its own, for the validation to refuse.
    Object.defineProperty(at, key, {
      value: last ? value : next,
      configurable: true,
      enumerable: true,
      writable: true,
    });
    at = next as Record<string, unknown>;
  }
}

/** The JSON object that the file `path` of `--config` holds. */
export async function readObject(path: string): Promise<Record<string, unknown>> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(`--config ${path} cannot be read: ${cause.message}`, { cause });
  });
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`--config ${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isObject(config) || Array.isArray(config)) throw new UsageError(`--config ${path} must hold a JSON object`);
  return config;
}

/** Sets `assignments`, each 'key=value', in `config` and checks it. What is wrong is the command line's fault. */
export function assigned<Config>(
  config: Record<string, unknown>,
  assignments: readonly string[],
  validate: (value: unknown) => Config,
): Config {
  for (const assignment of assignments) {
    const { path: key, value } = parseAssignment(assignment);
    assign(config, key, value);
  }
  try {
    return validate(config);
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    throw new UsageError(cause.message, { cause });
  }
}

/** Reads and checks the configuration at `path` after `change` and after setting `assignments`, each 'key=value'. */
export async function readConfig(
  path: string,
  assignments: readonly string[],
  change: (config: Record<string, unknown>) => Record<string, unknown>,
): Promise<TrainConfig> {
  return assigned(change(await readObject(path)), assignments, validateConfig);
}
