// When asynchronous operations take effect: at the wait (lazy), at once (eager) or by chance (random, by SIMT_SEED).
#pragma once

namespace flowmap::simt {

enum class Completion { lazy, eager, random };

/** SIMT_COMPLETION; lazy when unset. Only lazy shows a missing wait reliably. */
Completion completion();

}  // namespace flowmap::simt
