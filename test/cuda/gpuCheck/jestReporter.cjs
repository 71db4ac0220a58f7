// One line of JSON per test file as it ends, into $GPU_CHECK_RESULTS: what runs out of time keeps what it found.
const { appendFileSync } = require('node:fs');
const { relative } = require('node:path');

module.exports = class {
  onTestFileResult({ path, context }, { testResults, testExecError, perfStats }) {
    const titles = (status) => testResults.filter((test) => test.status === status).map(({ fullName }) => fullName);
    const failed = testResults
      .filter(({ status }) => status === 'failed')
      .map(({ fullName, failureMessages }) => ({
        title: fullName,
        message: failureMessages.join('\n').slice(0, 4000),
      }));
    if (testExecError) failed.push({ title: 'the file itself', message: String(testExecError.message).slice(0, 4000) });
    const line = {
      file: relative(context.config.rootDir, path),
      passed: titles('passed').length,
      failed,
      skipped: [...titles('pending'), ...titles('todo')],
      seconds: (perfStats.end - perfStats.start) / 1e3,
    };
    appendFileSync(process.env.GPU_CHECK_RESULTS, `${JSON.stringify(line)}\n`);
  }
};
