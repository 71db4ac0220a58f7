// How the emulator says that a kernel is wrong: one exception type, whose text becomes the runtime's error message.
#pragma once

#include <cstdarg>
#include <stdexcept>
#include <string>

namespace flowmap::simt {

/** A defect of the kernel (or of its launch) that the emulator found. */
struct Defect : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** PTX that the emulator does not know; never guessed. */
struct UnknownPtx : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** printf into a string. */
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

}  // namespace flowmap::simt
