#!/usr/bin/env bash
# `npm run sanitize [jest arguments]`: builds into build-sanitize/ with AddressSanitizer and UndefinedBehaviorSanitizer,
# then runs the native tests and the jest suite on that build. What is left out, and why, is said at each option.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake -S . -B build-sanitize -DFLOWMAP_SANITIZE=ON >/dev/null
cmake --build build-sanitize --parallel "$(nproc)" --target flowmap native_tests

# No leak check: Node ends without freeing V8's heap, and so does the device (csrc/core/device.cc).
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

for program in build-sanitize/native/*; do
  [ -x "$program" ] || continue
  echo "sanitize: $program"
  "$program"
done

# Node itself is not instrumented, so the run-time comes first by LD_PRELOAD. libstdc++ with it: ASan looks for
# __cxa_throw when it starts, before the addon brings the library in.
compiler=${CXX:-c++}
libraries=$("$compiler" -print-file-name=libasan.so):$("$compiler" -print-file-name=libubsan.so):$("$compiler" -print-file-name=libstdc++.so.6)
export FLOWMAP_ADDON=$PWD/build-sanitize/flowmap.node
# The pack test is about the released build alone.
LD_PRELOAD=$libraries node node_modules/jest/bin/jest.js --runInBand --testTimeout 600000 \
  --testPathIgnorePatterns=test/package -- "$@"
