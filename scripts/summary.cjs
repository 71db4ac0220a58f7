// A jest reporter whose one line, the last of `npm test`, programs can read.
module.exports = class {
  onRunComplete(_, { numPassedTests, numFailedTests, numPendingTests, numRuntimeErrorTestSuites }) {
    const failed = numFailedTests + numRuntimeErrorTestSuites;
    const skipped = numPendingTests > 0 ? `${numPendingTests} skipped\n` : '';
    process.once('exit', () => process.stdout.write(`${skipped}${numPassedTests} passed, ${failed} failed\n`));
  }
};
