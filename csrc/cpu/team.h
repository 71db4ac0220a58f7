// The threads that share the work of CPU kernels. A piece of work is cut into parts, a few for every thread; whoever is
// done takes the next, so a thread that others keep off its processor, or that has a slow one, holds nobody up. Between
// two pieces threads look out for the next before they sleep.
#pragma once

#include <cstdint>

namespace flowmap::cpu {

// For this thread's work from now on; others have no team. Smaller where the system has no thread left. The team ends
// with the thread.
void setTeamSize(int64_t size);

// 1 within a part, and on threads without a team.
int64_t teamSize();

// The thread that this is, below the size of the team whose part it is in; 0 outside of parts.
int64_t teamThread();

using TeamPart = void (*)(void* context, int64_t part);

// Of a piece of work, for every thread.
constexpr int64_t kMostPartsPerThread = 4;

// work(context, part) for all of `parts`, at most kMostPartsPerThread · teamSize(), on any of the threads, in any
// order. Must not throw. What was done before is seen by all parts, and what they did after.
void runOnTeam(TeamPart work, void* context, int64_t parts);

}  // namespace flowmap::cpu
