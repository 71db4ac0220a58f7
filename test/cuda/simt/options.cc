// Reads the environment once.
#include "options.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace flowmap::simt {

namespace {

uint64_t number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  if (!text || !*text) return otherwise;
  char* end = nullptr;
  const uint64_t value = std::strtoull(text, &end, 0);
  if (*end != '\0') throw std::runtime_error(std::string(name) + " is not a number: " + text);
  return value;
}

}  // namespace

const Options& options() {
  static const Options all = [] {
    Options o;
    o.sm = int(number("SIMT_SM", uint64_t(o.sm)));
    o.seed = number("SIMT_SEED", o.seed);
    o.races = number("SIMT_RACES", o.races) != 0;
    o.workers = unsigned(std::max<uint64_t>(1, number("SIMT_WORKERS", o.workers)));
    o.memory = number("SIMT_MEMORY", o.memory);
    return o;
  }();
  return all;
}

unsigned multiprocessors() { return options().sm >= 90 ? 8 : 4; }

uint32_t maxShared() {
  const int sm = options().sm;
  if (sm == 80 || sm == 87) return 163 * 1024;
  if (sm >= 90 && sm < 120) return 227 * 1024;
  return 99 * 1024;
}

}  // namespace flowmap::simt
