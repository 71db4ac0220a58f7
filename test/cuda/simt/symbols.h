// Names while a PTX text is parsed: registers and variables by scope, labels, special registers.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "program.h"

namespace flowmap::simt {

struct Variable {
  Space space = Space::generic;
  uint64_t address = 0;
  Slot slot = kSinkSlot;  // of its address, in the kernel being parsed
  bool dynamic = false;   // extern shared: its address is known when the kernel has been read
};

/** A branch (or table of branches) to a label that may come later. */
struct LabelUse {
  size_t instruction;
  std::string label;
  uint32_t line;
};

struct Scope {
  std::unordered_map<std::string, Slot> registers;
  std::unordered_map<std::string, uint64_t> ranges;  // %r of `.reg .b32 %r<10>`, with the registers' first value
  std::unordered_map<std::string, Variable> variables;
  std::unordered_map<std::string, size_t> labels;                    // index of the instruction
  std::unordered_map<std::string, std::vector<std::string>> tables;  // .branchtargets
  std::vector<LabelUse> uses;
};

std::optional<Special> specialRegister(const std::string& name);
/** Special registers that change while a thread runs (%clock…): read by an instruction of their own. */
bool isClock(const std::string& name);

}  // namespace flowmap::simt
