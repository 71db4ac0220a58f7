// Which test files go first. What jest knows of them in a fresh clone is their size, and of the longest ones some are small:
// begun last, each would run with the other workers idle.
const Sequencer = require(require.resolve('@jest/test-sequencer', { paths: [require.resolve('jest')] })).default;

const longest = [
  /cuda.families\.test/,
  /cuda.attentionHopper\w*\.test/,
  /cuda.mmdClusters\.test/,
  /ops.attention(QkNorm|Packed)\.test/,
  /cuda.attentionBackward\.test/,
  /cuda.budgets\.test/,
];

const rank = ({ path }) => {
  const found = longest.findIndex((pattern) => pattern.test(path));
  return found < 0 ? longest.length : found;
};

module.exports = class extends Sequencer {
  sort(tests) {
    return super.sort(tests).sort((a, b) => rank(a) - rank(b)); // keeps the order among the others
  }
};
