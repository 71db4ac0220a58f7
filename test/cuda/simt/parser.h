// PTX text to a Module. Global variables are allocated in device memory while parsing, so their addresses are
// constants.
#pragma once

#include <memory>
#include <string>

#include "memory.h"
#include "program.h"

namespace flowmap::simt {

std::unique_ptr<Module> parse(const std::string& text, DeviceMemory&);

}  // namespace flowmap::simt
