// One block of a running kernel: threads with explicit state, warps, barriers and the scheduler. A thread runs until it
// blocks; then its handler has set `status`, the run loop returns, and the scheduler goes on with another thread.
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "hooks.h"
#include "memory.h"
#include "program.h"
#include "report.h"

namespace flowmap::simt {

struct Index3 {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t(x) * y * z; }
  /** Of a linear index, x first. */
  Index3 at(uint64_t i) const { return {uint32_t(i % x), uint32_t(i / x % y), uint32_t(i / (uint64_t(x) * y))}; }
};

std::string text(Index3);  // "(1,0,0)"

struct Launch {
  const Kernel* kernel = nullptr;
  Index3 grid, block, cluster;   // threads of a block, blocks of a cluster
  bool explicitCluster = false;  // the launch, or the kernel, names a cluster
  uint32_t dynamicSharedBytes = 0;
  std::vector<uint8_t> parameters;
};

enum class Status : uint8_t { ready, collective, barrier, waiting, done };

/** What a family adds to a thread (asynchronous copies, mbarrier waits…). */
struct ThreadExtension {
  virtual ~ThreadExtension() = default;
};

struct Warp;
struct Block;
class Cluster;

struct Thread {
  uint64_t* registers = nullptr;
  const Instruction* next = nullptr;  // program counter
  Status status = Status::ready;
  uint32_t index = 0;  // linear, in the block
  uint32_t agent = 0;  // linear, in the cluster
  uint32_t lane = 0;
  Index3 id;
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint8_t* local = nullptr;
  const Instruction* at = nullptr;  // what it executes, or waits in
  std::string waitsFor;             // for the deadlock report, when status is `waiting`
  std::unique_ptr<ThreadExtension> copies;

  template <class T>
  T read(Slot slot) const {
    T value;
    std::memcpy(&value, &registers[slot], sizeof value);
    return value;
  }
  /** Signed values are sign-extended, all others zero-extended: a wider read sees what PTX prescribes. */
  template <class T>
  void write(Slot slot, T value) {
    if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
      registers[slot] = static_cast<uint64_t>(static_cast<int64_t>(value));
    } else {
      uint64_t wide = 0;
      std::memcpy(&wide, &value, sizeof value);
      registers[slot] = wide;
    }
  }
  /** "kernel k, thread (1,0,0), block (0,0,0), file.cu:12". */
  std::string describe() const;
  [[noreturn]] void fail(const std::string& what) const;  // throws Defect: what, then describe()
};

/** Runs once for all lanes of a collective, in the last to arrive; each lane's instruction is `thread.at`. */
using Collective = void (*)(Warp&, uint32_t mask);

// Of barrier instructions, in Instruction::immediate: all threads of a warp must meet at one place; bar.red's source is
// negated.
constexpr int64_t kNegatedSource = 1, kAligned = 2;

/** bar.warp.sync: the one collective that orders memory. */
void synchroniseWarp(Warp&, uint32_t mask);

struct Warp {
  Block* block = nullptr;
  uint32_t first = 0;  // index of lane 0's thread
  uint32_t lanes = 0;  // mask of the lanes that exist
  uint32_t live = 0;   // mask of those that have not exited
  struct Pending {
    Collective complete;
    uint32_t mask, arrived;
  };
  std::vector<Pending> pending;
  Thread& lane(uint32_t lane);
};

struct Barrier {
  uint32_t expected = 0;                        // threads; 0: all that have not exited
  std::vector<Thread*> arrived, waiting;        // arrived: those of bar.arrive, too
  std::array<const Thread*, 32> firstOfWarp{};  // the first of each warp to wait in an aligned barrier
};

struct Block {
  Block(const Launch&, DeviceMemory&, Cluster&, uint32_t rank, uint64_t seed);
  ~Block();
  void start(Index3 index, std::shared_ptr<Observer>);
  bool ready() const { return !ready_.empty(); }
  bool ended() const { return live_ == 0; }
  uint32_t live() const { return live_; }  // threads that have not exited
  void turn();                             // runs one thread until it blocks or its turn ends; throws Defect
  std::string waits() const;               // who waits in what, for a report of a deadlock

  const Launch& launch;
  DeviceMemory& memory;
  const Kernel& kernel;
  Cluster& cluster;
  const uint32_t rank;  // in the cluster
  Index3 index;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;
  std::vector<uint8_t> shared, sharedShadow;  // byte i has address kSharedBase + i
  std::shared_ptr<Observer> observer;         // of the whole cluster
  uint64_t instructions = 0;

  void wake(Thread&);  // status becomes ready
  uint64_t random();   // deterministic per block and seed

  // ---- what handlers call; all may throw Defect ----
  /** Checked bytes of an access in the given space (generic resolves); tells the observer. */
  uint8_t* access(Thread&, const Instruction&, Space, uint64_t address, uint32_t size, Access);
  void joinCollective(Thread&, const Instruction&, uint32_t mask, Collective, bool samePlace = true);
  /** bar.sync (waits) or bar.arrive; count 0 means every thread that has not exited. */
  void joinBarrier(Thread&, const Instruction&, uint32_t id, uint32_t count, bool waits);
  void threadEnds(Thread&);
  void yield(Thread&);  // lets other threads run

 private:
  void startThread(uint32_t index);
  uint64_t special(const Thread&, Special) const;
  Thread* pick();
  uint64_t budget();
  void execute(Thread&);
  void completeBarrier(Barrier&);
  /** Bytes and shadow of an address of the cluster's shared memory. */
  uint8_t* peerBytes(Thread&, uint64_t address, uint32_t size, Access, uint8_t*& shadow);
  void completeIfFull(Warp&, size_t pending);
  [[noreturn]] void badAccess(Thread&, Space, uint64_t address, uint32_t size, Access);
  std::vector<uint64_t> registers_;
  std::vector<uint8_t> local_;
  std::deque<Thread*> ready_;
  bool yields_ = false;
  uint64_t seed_, state_ = 1;
  uint32_t live_ = 0;
};

/** All `size` shadow bytes say that the byte was written. */
inline bool isWritten(const uint8_t* shadow, uint32_t size) {
  switch (size) {
    case 4: {
      uint32_t bytes;
      std::memcpy(&bytes, shadow, 4);
      return bytes == 0x01010101u;
    }
    case 2:
      return shadow[0] & shadow[1];
    case 1:
      return shadow[0];
    default:
      for (uint32_t i = 0; i < size; i += 8) {
        uint64_t bytes;
        std::memcpy(&bytes, shadow + i, 8);
        if (bytes != 0x0101010101010101ull) return false;
      }
      return true;
  }
}

inline uint8_t* Block::access(Thread& t, const Instruction& i, Space space, uint64_t address, uint32_t size,
                              Access kind) {
  if (space == Space::generic) {
    switch (address & kWindowMask) {
      case kSharedWindow:
        address -= kSharedWindow;
        space = address < kPeerStride ? Space::shared : Space::cluster;
        break;
      case kLocalWindow:
        space = Space::local, address -= kLocalWindow;
        break;
      case kParameterWindow:
        space = Space::parameter, address -= kParameterWindow;
        break;
      default:
        space = Space::global;
    }
  }
  uint8_t *bytes, *shadow;
  if (space == Space::global || space == Space::constant) {
    if ((address & (size - 1)) || !memory.valid(address, size)) badAccess(t, Space::global, address, size, kind);
    bytes = memory.bytes(address);
    shadow = memory.shadow(address);
  } else if (space == Space::shared) {
    const uint64_t at = address - kSharedBase;
    if ((address & (size - 1)) || at >= shared.size() || at + size > shared.size())
      badAccess(t, space, address, size, kind);
    bytes = &shared[at];
    shadow = &sharedShadow[at];
  } else if (space == Space::cluster) {
    bytes = peerBytes(t, address, size, kind, shadow);
  } else if (space == Space::local) {
    const uint64_t at = address - kLocalBase;
    if ((address & (size - 1)) || at >= kernel.localBytes || at + size > kernel.localBytes)
      badAccess(t, space, address, size, kind);
    return t.local + at;
  } else {
    if ((address & (size - 1)) || address + size > kernel.parameterBytes || kind != Access::read)
      badAccess(t, space, address, size, kind);
    return const_cast<uint8_t*>(launch.parameters.data()) + address;
  }
  if (kind == Access::write)
    std::memset(shadow, kWritten, size);
  else if (!isWritten(shadow, size))
    badAccess(t, space, address, size, kind);
  if (observer) observer->access(t, i, space == Space::constant ? Space::global : space, address, size, kind);
  return bytes;
}

inline Thread& Warp::lane(uint32_t lane) { return block->threads[first + lane]; }

}  // namespace flowmap::simt
