// How the programs of this folder fail.
#pragma once

#include <cstdio>
#include <cstdlib>

// Ends the program where `holds` is false.
inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}
