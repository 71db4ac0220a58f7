// Kernels use every core by themselves; waiting threads must not spin while test files run side by side.
process.env.OMP_WAIT_POLICY ??= 'passive';

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  transform: { '^.+\\.ts$': '@swc/jest' },
  moduleNameMapper: { '^flowmap$': '<rootDir>/lib/index.ts' },
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/build', '<rootDir>/runs'],
  setupFilesAfterEnv: ['<rootDir>/test/support/setup.ts'],
  // Slow machines are slow, not wrong.
  testTimeout: 120_000,
  maxWorkers: 2,
  reporters: ['default', '<rootDir>/scripts/summary.cjs'],
};
