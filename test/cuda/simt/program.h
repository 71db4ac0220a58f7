// A decoded PTX module: what the run loop executes. Every scalar operand is a slot of the thread's register file:
// constants, symbol addresses and special registers have slots too, filled from the kernel's image when a thread
// starts.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace flowmap::simt {

struct Thread;
struct Instruction;
using Handler = void (*)(Thread&, const Instruction&);
using Slot = uint32_t;

constexpr Slot kTrueSlot = 0;   // always 1: the guard of what has no guard
constexpr Slot kSinkSlot = 1;   // what is written to `_`
constexpr Slot kCarrySlot = 2;  // the carry of add.cc and its kin

/** `cluster` is the shared memory of any block of the cluster, `shared` that of the own block alone. */
enum class Space : uint8_t { generic, global, shared, local, parameter, constant, cluster };

struct Instruction {
  Handler run = nullptr;
  Slot d = kSinkSlot;                                               // destination
  Slot p = kSinkSlot;                                               // second destination (the predicate of `d|p`)
  Slot a = kSinkSlot, b = kSinkSlot, c = kSinkSlot, e = kSinkSlot;  // sources
  Slot guard = kTrueSlot;
  uint32_t skipIf = 0;                  // the value of the guard that skips the instruction
  int64_t immediate = 0;                // offset of an address, or what the family keeps here
  const Slot* list = nullptr;           // slots of vector operands, in the order the family documents
  const Instruction* target = nullptr;  // branches
  uint32_t count = 0;                   // elements of a vector access, or what the family keeps here
  Space space = Space::generic;
  uint32_t line = 0;       // in the PTX text
  const char* where = "";  // file:line of the source, from .loc
  const char* text = "";   // as spelled, for reports
};

/** Special registers that get their value when a thread starts. */
enum class Special : uint8_t {
  tidX,
  tidY,
  tidZ,
  ntidX,
  ntidY,
  ntidZ,
  ctaidX,
  ctaidY,
  ctaidZ,
  nctaidX,
  nctaidY,
  nctaidZ,
  laneId,
  warpId,
  warpCount,
  lanemaskEq,
  lanemaskLt,
  lanemaskLe,
  lanemaskGt,
  lanemaskGe,
  dynamicSharedBytes,
  totalSharedBytes,
  smId,
  smCount,
  gridId,
  clusterIdX,
  clusterIdY,
  clusterIdZ,
  clusterCountX,
  clusterCountY,
  clusterCountZ,
  inClusterX,
  inClusterY,
  inClusterZ,
  clusterSizeX,
  clusterSizeY,
  clusterSizeZ,
  clusterRank,
  clusterBlocks,
  isExplicitCluster
};

struct Parameter {
  std::string name;
  uint32_t offset, size;
};

struct Kernel {
  std::string name;      // mangled
  std::string readable;  // demangled, for reports
  std::vector<Instruction> code;
  std::vector<uint64_t> image;  // initial register file
  std::vector<std::pair<Slot, Special>> specials;
  std::deque<std::vector<Slot>> lists;  // owns Instruction::list
  std::vector<Parameter> parameters;
  uint32_t parameterBytes = 0;
  uint32_t sharedBytes = 0;  // static; dynamic shared memory starts here (aligned by the declaration)
  uint32_t localBytes = 0;
  uint32_t maxThreads = 1024;             // .maxntid
  std::array<uint32_t, 3> clusterSize{};  // .reqnctapercluster; zeros where the launch says
  uint32_t maxClusterBlocks = 16;         // .maxclusterrank
  bool asynchronous = false;  // has mbarriers, bulk copies or wgmma: the race detector follows their engines
  bool ordered = false;       // has atomics on global memory: its blocks run one after the other, so results repeat
};

struct GlobalVariable {
  uint64_t address, size;
};

struct Module {
  std::map<std::string, std::unique_ptr<Kernel>> kernels;
  std::map<std::string, GlobalVariable> globals;  // .global and .const
  std::deque<std::string> strings;                // owns Instruction::where and ::text
};

}  // namespace flowmap::simt
