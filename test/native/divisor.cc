// Division by multiplication, against division: also beyond 32 bits, where no test has tensors large enough.
#include "cuda/divisor.h"

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

using flowmap::cuda::Divisor;

namespace {

void check(int64_t n, int64_t d, int64_t most) {
  int64_t quotient = n;
  const int64_t remainder = Divisor(d, most).take(quotient);
  if (quotient == n / d && remainder == n % d) return;
  std::fprintf(stderr, "divisor: failed: %" PRId64 " / %" PRId64 " gave %" PRId64 " rest %" PRId64 "\n", n, d, quotient,
               remainder);
  std::exit(1);
}

// Around every multiple and power of two that a rounding error could cross.
void divides(int64_t most) {
  uint64_t state = 1;
  const auto next = [&state](int64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int64_t>((state >> 1) % static_cast<uint64_t>(below));
  };
  for (int round = 0; round < 200000; ++round) {
    const int64_t scale = int64_t{1} << next(most > INT32_MAX ? 62 : 30);
    const int64_t d = 1 + next(round % 3 ? scale : 1000);
    const int64_t multiple = next(most / d + 1) * d;
    for (const int64_t n : {int64_t{0}, d - 1, d, multiple - 1, multiple, multiple + 1, next(most), most}) {
      if (n >= 0 && n <= most) check(n, d, most);
    }
  }
  check(most, most, most);
  check(most - 1, most, most);
}

}  // namespace

int main() {
  divides(INT32_MAX);
  divides(INT64_MAX - 1);
  check((int64_t{1} << 40) + 7, 3, int64_t{1} << 41);
  check(5, int64_t{1} << 33, 10);
  std::puts("divisor: ok");
}
