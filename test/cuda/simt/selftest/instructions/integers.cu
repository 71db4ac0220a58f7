// Integer and bit instructions.
#include <algorithm>
#include <bit>

#include "compare.cuh"

namespace selftest {
namespace {

struct MulHiS32 {
  __device__ static int32_t device(int32_t a, int32_t b) {
    int32_t d;
    asm("mul.hi.s32 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
  static int32_t host(int32_t a, int32_t b) { return int32_t(int64_t(a) * b >> 32); }
};
struct MulHiU64 {
  __device__ static uint64_t device(uint64_t a, uint64_t b) {
    uint64_t d;
    asm("mul.hi.u64 %0, %1, %2;" : "=l"(d) : "l"(a), "l"(b));
    return d;
  }
  static uint64_t host(uint64_t a, uint64_t b) { return uint64_t((unsigned __int128)a * b >> 64); }
};
struct MulWideS32 {
  __device__ static int64_t device(int32_t a, int32_t b) {
    int64_t d;
    asm("mul.wide.s32 %0, %1, %2;" : "=l"(d) : "r"(a), "r"(b));
    return d;
  }
  static int64_t host(int32_t a, int32_t b) { return int64_t(a) * b; }
};
struct MulWideU16 {
  __device__ static uint32_t device(uint16_t a, uint16_t b) {
    uint32_t d;
    asm("mul.wide.u16 %0, %1, %2;" : "=r"(d) : "h"(a), "h"(b));
    return d;
  }
  static uint32_t host(uint16_t a, uint16_t b) { return uint32_t(a) * b; }
};
struct MadLoS32 {
  __device__ static int32_t device(int32_t a, int32_t b, int32_t c) {
    int32_t d;
    asm("mad.lo.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static int32_t host(int32_t a, int32_t b, int32_t c) { return int32_t(uint32_t(a) * uint32_t(b) + uint32_t(c)); }
};
struct MadWideS32 {
  __device__ static int64_t device(int32_t a, int32_t b, int64_t c) {
    int64_t d;
    asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(d) : "r"(a), "r"(b), "l"(c));
    return d;
  }
  static int64_t host(int32_t a, int32_t b, int64_t c) { return int64_t(uint64_t(int64_t(a) * b) + uint64_t(c)); }
};
struct AddCarry {
  __device__ static uint64_t device(uint64_t a, uint64_t b) {
    uint32_t low, high;
    asm("{ add.cc.u32 %0, %2, %4; addc.u32 %1, %3, %5; }"
        : "=&r"(low), "=r"(high)
        : "r"(uint32_t(a)), "r"(uint32_t(a >> 32)), "r"(uint32_t(b)), "r"(uint32_t(b >> 32)));
    return uint64_t(high) << 32 | low;
  }
  static uint64_t host(uint64_t a, uint64_t b) { return a + b; }
};
struct SubBorrow {
  __device__ static uint64_t device(uint64_t a, uint64_t b) {
    uint32_t low, high;
    asm("{ sub.cc.u32 %0, %2, %4; subc.u32 %1, %3, %5; }"
        : "=&r"(low), "=r"(high)
        : "r"(uint32_t(a)), "r"(uint32_t(a >> 32)), "r"(uint32_t(b)), "r"(uint32_t(b >> 32)));
    return uint64_t(high) << 32 | low;
  }
  static uint64_t host(uint64_t a, uint64_t b) { return a - b; }
};
struct DivS32 {
  __device__ static int32_t device(int32_t a, int32_t b) { return (b | 1) == -1 ? 0 : a / (b | 1); }
  static int32_t host(int32_t a, int32_t b) { return (b | 1) == -1 ? 0 : a / (b | 1); }
};
struct RemS64 {
  __device__ static int64_t device(int64_t a, int64_t b) { return (b | 1) == -1 ? 0 : a % (b | 1); }
  static int64_t host(int64_t a, int64_t b) { return (b | 1) == -1 ? 0 : a % (b | 1); }
};
struct DivU64 {
  __device__ static uint64_t device(uint64_t a, uint64_t b) { return a / (b | 1); }
  static uint64_t host(uint64_t a, uint64_t b) { return a / (b | 1); }
};
struct MinS64 {
  __device__ static int64_t device(int64_t a, int64_t b) {
    int64_t d;
    asm("min.s64 %0, %1, %2;" : "=l"(d) : "l"(a), "l"(b));
    return d;
  }
  static int64_t host(int64_t a, int64_t b) { return std::min(a, b); }
};
struct MaxU16 {
  __device__ static uint16_t device(uint16_t a, uint16_t b) {
    uint16_t d;
    asm("max.u16 %0, %1, %2;" : "=h"(d) : "h"(a), "h"(b));
    return d;
  }
  static uint16_t host(uint16_t a, uint16_t b) { return std::max(a, b); }
};
struct AbsS32 {
  __device__ static int32_t device(int32_t a) {
    int32_t d;
    asm("abs.s32 %0, %1;" : "=r"(d) : "r"(a));
    return d;
  }
  static int32_t host(int32_t a) { return a < 0 ? int32_t(0u - uint32_t(a)) : a; }
};
struct SadU32 {
  __device__ static uint32_t device(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("sad.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static uint32_t host(uint32_t a, uint32_t b, uint32_t c) { return c + (a < b ? b - a : a - b); }
};
struct ShlB32 {
  __device__ static uint32_t device(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("shl.b32 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
  static uint32_t host(uint32_t a, uint32_t b) { return b > 31 ? 0 : a << b; }
};
struct ShrS32 {
  __device__ static int32_t device(int32_t a, uint32_t b) {
    int32_t d;
    asm("shr.s32 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
  static int32_t host(int32_t a, uint32_t b) { return a >> std::min(b, 31u); }
};
struct ShrU64 {
  __device__ static uint64_t device(uint64_t a, uint32_t b) {
    uint64_t d;
    asm("shr.u64 %0, %1, %2;" : "=l"(d) : "l"(a), "r"(b));
    return d;
  }
  static uint64_t host(uint64_t a, uint32_t b) { return b > 63 ? 0 : a >> b; }
};
struct ShfLeftWrap {
  __device__ static uint32_t device(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("shf.l.wrap.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static uint32_t host(uint32_t a, uint32_t b, uint32_t c) { return c & 31 ? b << (c & 31) | a >> (32 - (c & 31)) : b; }
};
struct ShfRightClamp {
  __device__ static uint32_t device(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("shf.r.clamp.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static uint32_t host(uint32_t a, uint32_t b, uint32_t c) { return c == 0 ? a : c > 31 ? b : a >> c | b << (32 - c); }
};
struct Lop3 {  // a & b ^ c: 0x6a
  __device__ static uint32_t device(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static uint32_t host(uint32_t a, uint32_t b, uint32_t c) { return (a & b) ^ c; }
};
struct Prmt {
  __device__ static uint32_t device(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static uint32_t host(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d = 0;
    for (int byte = 0; byte < 4; ++byte) {
      const uint32_t selector = c >> (4 * byte) & 15;
      const uint32_t value = ((selector & 4 ? b : a) >> (8 * (selector & 3))) & 0xff;
      d |= (selector & 8 ? (value & 0x80 ? 0xff : 0) : value) << (8 * byte);
    }
    return d;
  }
};
struct BfeS32 {
  __device__ static int32_t device(int32_t a, uint32_t b, uint32_t c) {
    int32_t d;
    asm("bfe.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static int32_t host(int32_t a, uint32_t b, uint32_t c) {
    const uint32_t position = b & 255, length = c & 255;
    if (length == 0) return 0;
    const int64_t shifted = int64_t(a) >> std::min(position, 63u);
    return length >= 32 ? int32_t(shifted) : int32_t(shifted << (64 - length) >> (64 - length));
  }
};
struct BfiB32 {
  __device__ static uint32_t device(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("bfi.b32 %0, %1, %2, %3, 9;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static uint32_t host(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t position = c & 255;
    if (position > 31) return b;
    const uint32_t mask = uint32_t(uint64_t(0x1ff) << position);
    return (b & ~mask) | (uint32_t(uint64_t(a) << position) & mask);
  }
};
struct BfindS32 {
  __device__ static uint32_t device(int32_t a) {
    uint32_t d;
    asm("bfind.s32 %0, %1;" : "=r"(d) : "r"(a));
    return d;
  }
  static uint32_t host(int32_t a) { return uint32_t(31 - std::countl_zero(uint32_t(a < 0 ? ~a : a))); }
};
struct Clz64 {
  __device__ static uint32_t device(uint64_t a) { return uint32_t(__clzll(int64_t(a))); }
  static uint32_t host(uint64_t a) { return uint32_t(std::countl_zero(a)); }
};
struct Popc {
  __device__ static uint32_t device(uint32_t a) { return uint32_t(__popc(a)); }
  static uint32_t host(uint32_t a) { return uint32_t(std::popcount(a)); }
};
struct Brev {
  __device__ static uint32_t device(uint32_t a) { return __brev(a); }
  static uint32_t host(uint32_t a) {
    uint32_t d = 0;
    for (int bit = 0; bit < 32; ++bit) d |= (a >> bit & 1) << (31 - bit);
    return d;
  }
};
struct SetpAnd {
  __device__ static uint32_t device(int32_t a, int32_t b) {
    uint32_t d;
    asm("{ .reg .pred p, q, r; setp.ne.s32 r, %1, 0; setp.lt.and.s32 p|q, %1, %2, r; selp.u32 %0, 1, 0, p; @q add.u32 "
        "%0, %0, 2; }"
        : "=r"(d)
        : "r"(a), "r"(b));
    return d;
  }
  static uint32_t host(int32_t a, int32_t b) { return uint32_t(a < b && a) | uint32_t(!(a < b) && a) << 1; }
};
struct SlctS32 {
  __device__ static int32_t device(int32_t a, int32_t b, int32_t c) {
    int32_t d;
    asm("slct.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static int32_t host(int32_t a, int32_t b, int32_t c) { return c >= 0 ? a : b; }
};

}  // namespace

void testIntegers() {
  binary<MulHiS32, int32_t, int32_t, int32_t>("mul.hi.s32");
  binary<MulHiU64, uint64_t, uint64_t, uint64_t>("mul.hi.u64");
  binary<MulWideS32, int64_t, int32_t, int32_t>("mul.wide.s32");
  binary<MulWideU16, uint32_t, uint16_t, uint16_t>("mul.wide.u16");
  ternary<MadLoS32, int32_t, int32_t, int32_t, int32_t>("mad.lo.s32");
  ternary<MadWideS32, int64_t, int32_t, int32_t, int64_t>("mad.wide.s32");
  binary<AddCarry, uint64_t, uint64_t, uint64_t>("add.cc.u32 addc.u32");
  binary<SubBorrow, uint64_t, uint64_t, uint64_t>("sub.cc.u32 subc.u32");
  binary<DivS32, int32_t, int32_t, int32_t>("div.s32");
  binary<RemS64, int64_t, int64_t, int64_t>("rem.s64");
  binary<DivU64, uint64_t, uint64_t, uint64_t>("div.u64");
  binary<MinS64, int64_t, int64_t, int64_t>("min.s64");
  binary<MaxU16, uint16_t, uint16_t, uint16_t>("max.u16");
  unary<AbsS32, int32_t, int32_t>("abs.s32");
  ternary<SadU32, uint32_t, uint32_t, uint32_t, uint32_t>("sad.u32");
  binary<ShlB32, uint32_t, uint32_t, uint32_t>("shl.b32");
  binary<ShrS32, int32_t, int32_t, uint32_t>("shr.s32");
  binary<ShrU64, uint64_t, uint64_t, uint32_t>("shr.u64");
  ternary<ShfLeftWrap, uint32_t, uint32_t, uint32_t, uint32_t>("shf.l.wrap.b32");
  ternary<ShfRightClamp, uint32_t, uint32_t, uint32_t, uint32_t>("shf.r.clamp.b32");
  ternary<Lop3, uint32_t, uint32_t, uint32_t, uint32_t>("lop3.b32");
  ternary<Prmt, uint32_t, uint32_t, uint32_t, uint32_t>("prmt.b32");
  ternary<BfeS32, int32_t, int32_t, uint32_t, uint32_t>("bfe.s32");
  ternary<BfiB32, uint32_t, uint32_t, uint32_t, uint32_t>("bfi.b32");
  unary<BfindS32, uint32_t, int32_t>("bfind.s32");
  unary<Clz64, uint32_t, uint64_t>("clz.b64");
  unary<Popc, uint32_t, uint32_t>("popc.b32");
  unary<Brev, uint32_t, uint32_t>("brev.b32");
  binary<SetpAnd, uint32_t, int32_t, int32_t>("setp.lt.and.s32 p|q");
  ternary<SlctS32, int32_t, int32_t, int32_t, int32_t>("slct.s32.s32");
}

}  // namespace selftest
