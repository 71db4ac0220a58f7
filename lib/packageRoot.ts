// The package's folder, that of the clone or of the installation, from the sources as from what they are compiled to; and what
// its manifest says.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

function find(folder: string): string {
  if (existsSync(join(folder, 'package.json'))) return folder;
  const parent = dirname(folder);
  if (parent === folder) throw new Error(`flowmap: no package.json above ${__dirname}`);
  return find(parent);
}

/** @internal */
export const packageRoot = find(__dirname);

/** @internal */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
}
