// The programs of test/native: parts of the addon that no JavaScript reaches by themselves.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { build, root } from '../support/build';

const programs = readdirSync(join(root, 'test', 'native'))
  .filter((file) => file.endsWith('.cc'))
  .map((file) => file.replace(/\.cc$/, ''));
const built = existsSync(join(root, 'build', 'CMakeCache.txt'));

// Where the addon is a prebuild there is nothing to link them with.
(built ? describe : describe.skip)('native programs', () => {
  beforeAll(() => {
    build('native_tests');
  }, 300_000);

  it.each(programs)('%s passes', (name) => {
    expect(execFileSync(join(root, 'build', 'native', name), { encoding: 'utf8' })).toContain('ok');
  });
});
