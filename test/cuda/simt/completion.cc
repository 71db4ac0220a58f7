// Reads SIMT_COMPLETION.
#include "completion.h"

#include <cstdlib>
#include <string_view>

#include "report.h"

namespace flowmap::simt {

Completion completion() {
  static const Completion chosen = [] {
    const char* text = std::getenv("SIMT_COMPLETION");
    const std::string_view name = text ? text : "lazy";
    if (name == "lazy") return Completion::lazy;
    if (name == "eager") return Completion::eager;
    if (name == "random") return Completion::random;
    throw Defect(format("SIMT_COMPLETION must be lazy, eager or random, got %s", text));
  }();
  return chosen;
}

}  // namespace flowmap::simt
