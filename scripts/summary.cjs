// A jest reporter whose one line, the last of `npm test`, programs can read.
module.exports = class {
  onRunComplete(_, { numPassedTests, numFailedTests, numPendingTests, numRuntimeErrorTestSuites }) {
    const failed = numFailedTests + numRuntimeErrorTestSuites;
    if (numPendingTests > 0) process.stdout.write(`${numPendingTests} skipped\n`);
    process.stdout.write(`${numPassedTests} passed, ${failed} failed\n`);
  }
};
