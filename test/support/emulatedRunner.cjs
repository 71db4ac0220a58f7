// Runs the project cuda-emulated in worker processes of its own, whose environment chooses the emulator: a process has
// one CUDA library for life, and the ordinary project's processes may have the real one.
const runner = require.resolve('jest-runner', { paths: [require.resolve('jest')] });
const TestRunner = require(runner).default;

module.exports = class extends TestRunner {
  async runTests(tests, watcher, options) {
    const { FLOWMAP_CUDA: before, FLOWMAP_CUBLAS: library } = process.env;
    process.env.FLOWMAP_CUDA = 'emulated';
    delete process.env.FLOWMAP_CUBLAS; // the emulator brings its own
    try {
      return await super.runTests(tests, watcher, { ...options, serial: false });
    } finally {
      if (before === undefined) delete process.env.FLOWMAP_CUDA;
      else process.env.FLOWMAP_CUDA = before;
      if (library !== undefined) process.env.FLOWMAP_CUBLAS = library;
    }
  }
};
