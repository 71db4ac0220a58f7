// The fat binary's container: a header, then entries of PTX or machine code, each with its own header.
#include "fatbin.h"

#include <cstdint>
#include <cstring>

#include "../report.h"

namespace flowmap::simt {

namespace {

struct Container {
  uint32_t magic;
  uint16_t version, headerBytes;
  uint64_t bytes;
};
struct Entry {
  uint16_t kind, version;
  uint32_t headerBytes;
  uint64_t bytes;
  uint32_t compressedBytes, optionsOffset;
  uint16_t minor, major;
  uint32_t sm;
  uint32_t nameOffset, nameBytes;
  uint64_t flags;
};
constexpr uint32_t kMagic = 0xba55ed50;
constexpr uint16_t kPtx = 1;

}  // namespace

std::string choosePtx(const void* fatBinary, int sm) {
  const auto* bytes = static_cast<const char*>(fatBinary);
  Container container;
  std::memcpy(&container, bytes, sizeof container);
  if (container.magic != kMagic) throw UnknownPtx("a fat binary of an unknown format");
  std::string best, found;
  int bestTarget = 0;
  bool compressed = false;
  const char* at = bytes + container.headerBytes;
  for (const char* end = at + container.bytes; at < end;) {
    Entry entry;
    std::memcpy(&entry, at, sizeof entry);
    const char* text = at + entry.headerBytes;
    at = text + entry.bytes;
    if (entry.kind != kPtx) continue;
    if (std::strncmp(text, "\n", 1) != 0 && std::strncmp(text, "//", 2) != 0 && std::strncmp(text, ".", 1) != 0) {
      compressed = true;
      continue;
    }
    // Targets with a suffix (sm_90a) run on exactly that capability; they win over the plain one.
    const char* target = std::strstr(text, ".target sm_");
    if (!target) continue;
    const char suffix = target[11 + std::strspn(target + 11, "0123456789")];
    const bool exact = suffix == 'a' || suffix == 'f';
    found += format(" compute_%u%s", entry.sm, exact ? std::string(1, suffix).c_str() : "");
    if (int(entry.sm) > sm || (exact && int(entry.sm) != sm)) continue;
    const int rank = int(entry.sm) * 2 + exact;
    if (rank > bestTarget) bestTarget = rank, best.assign(text, strnlen(text, entry.bytes));
  }
  if (best.empty()) {
    throw UnknownPtx(format("no PTX for compute capability %d.%d in a fat binary (PTX of:%s%s)", sm / 10, sm % 10,
                            found.empty() ? " none" : found.c_str(),
                            compressed ? "; some is compressed: build with -Xfatbin --compress=false" : ""));
  }
  return best;
}

}  // namespace flowmap::simt
