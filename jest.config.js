const { readdirSync, readFileSync } = require('node:fs');
const { availableParallelism } = require('node:os');
const { join } = require('node:path');

// Kernels use every core by themselves; waiting threads must not spin while test files run side by side.
process.env.OMP_WAIT_POLICY ??= 'passive';

const common = {
  rootDir: __dirname,
  testEnvironment: 'node',
  transform: { '^.+\\.ts$': '@swc/jest' },
  moduleNameMapper: { '^flowmap$': '<rootDir>/lib/index.ts' },
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/build', '<rootDir>/runs'],
  setupFilesAfterEnv: ['<rootDir>/test/support/setup.ts'],
  // Each use of a global is slow in jest's sandbox, and references compute with these element by element.
  sandboxInjectedGlobals: [
    'Array',
    'Boolean',
    'Float32Array',
    'Float64Array',
    'Int32Array',
    'Map',
    'Math',
    'Number',
    'Object',
  ],
};

// Test files that take their devices from test/support/devices.
const deviceTests = readdirSync(join(__dirname, 'test'), { recursive: true })
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => join(__dirname, 'test', file))
  .filter((file) => readFileSync(file, 'utf8').includes('support/devices'));

/** @type {import('jest').Config} */
module.exports = {
  projects: [
    { ...common, displayName: 'flowmap', testMatch: ['<rootDir>/test/**/*.test.ts'] },
    {
      ...common,
      displayName: 'cuda-emulated',
      testMatch: deviceTests,
      runner: '<rootDir>/test/support/emulatedRunner.cjs',
    },
  ],
  testSequencer: '<rootDir>/test/support/sequencer.cjs',
  // Slow machines are slow, not wrong.
  testTimeout: 120_000,
  // An emulated kernel runs on one core; each worker may take a gigabyte.
  maxWorkers: Math.min(4, Math.max(2, availableParallelism())),
  reporters: ['default', '<rootDir>/scripts/summary.cjs'],
};
