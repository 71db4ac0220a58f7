// mma.cuh: every form, on values whose sums are exact in any order (compared as bits) and on values that use the whole
// mantissa, where tensor cores round in their own way (compared as numbers).
#include "cuda/ptx/mma.cuh"

#include <string>

#include "record.cuh"

namespace conformance {

using namespace flowmap::cuda::ptx;

namespace {

enum class Form { m16n8k16, m16n8k8, m16n8k4 };

template <class T, class Accumulator, Form form, int NA, int NB, int ND>
__global__ void multiply(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* out) {
  uint32_t fragmentA[NA], fragmentB[NB];
  Accumulator d[ND];
  for (int i = 0; i < NA; ++i) fragmentA[i] = a[threadIdx.x * NA + i];
  for (int i = 0; i < NB; ++i) fragmentB[i] = b[threadIdx.x * NB + i];
  for (int i = 0; i < ND; ++i) d[i] = reinterpret_cast<const Accumulator*>(c)[threadIdx.x * ND + i];
  if constexpr (form == Form::m16n8k16) Mma<T>::m16n8k16(d, fragmentA, fragmentB);
  if constexpr (form == Form::m16n8k8) Mma<T>::m16n8k8(d, fragmentA, fragmentB);
  if constexpr (form == Form::m16n8k4) Mma<T>::m16n8k4(d, fragmentA, fragmentB);
  for (int i = 0; i < ND; ++i) reinterpret_cast<Accumulator*>(out)[threadIdx.x * ND + i] = d[i];
}

__global__ void roundToTf32(const uint32_t* in, uint32_t* out) {
  out[threadIdx.x] = toTf32(__uint_as_float(in[threadIdx.x]));
}

uint32_t bitsOf(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

template <class T>
uint32_t packed(float low, float high) {
  if constexpr (std::is_same_v<T, Tf32>)
    return (bitsOf(low) + 0x1000) & 0xffffe000u;
  else if constexpr (std::is_same_v<T, __half>)
    return __half_as_ushort(__float2half(low)) | __half_as_ushort(__float2half(high)) << 16;
  else
    return __bfloat16_as_ushort(__float2bfloat16(low)) | __bfloat16_as_ushort(__float2bfloat16(high)) << 16;
}

template <class T>
std::vector<uint32_t> fragments(size_t count, Random& random, float (Random::*draw)()) {
  std::vector<uint32_t> values(count);
  for (uint32_t& value : values) {
    const float low = (random.*draw)();
    value = packed<T>(low, (random.*draw)());
  }
  return values;
}

template <class T, Form form, bool halfSums = false>
void record(const std::string& name) {
  using Accumulator = std::conditional_t<halfSums, uint32_t, float>;
  constexpr int K = form == Form::m16n8k16 ? 16 : form == Form::m16n8k8 ? 8 : 4;
  constexpr int each = std::is_same_v<T, Tf32> ? 1 : 2;
  constexpr int NA = K / 2 / each, NB = K / 4 / each, ND = halfSums ? 2 : 4;
  const auto run = [&](const std::vector<uint32_t>& a, const std::vector<uint32_t>& b, const std::vector<uint32_t>& c,
                       const std::string& data, As as, double tolerance) {
    const Words deviceA(a), deviceB(b), deviceC(c), out(32 * ND);
    multiply<T, Accumulator, form, NA, NB, ND><<<1, 32>>>(deviceA.data(), deviceB.data(), deviceC.data(), out.data());
    out.record((name + " " + data).c_str(), as, tolerance);
  };
  const auto sums = [&](Random& random, float (Random::*draw)()) {
    if (halfSums) return fragments<__half>(32 * ND, random, draw);
    std::vector<uint32_t> values(32 * ND);
    for (uint32_t& value : values) value = bitsOf((random.*draw)());
    return values;
  };
  Random random(3);
  std::vector<uint32_t> a = fragments<T>(32 * NA, random, &Random::sixteenth);
  std::vector<uint32_t> b = fragments<T>(32 * NB, random, &Random::sixteenth);
  // Half-precision sums of such products do not fit: products by one of ±1 do.
  if (halfSums) {
    for (uint32_t& pair : b) pair = 0x3c003c00u | (pair & 0x80008000u);
  }
  run(a, b, sums(random, &Random::sixteenth), "exact", As::bits, 0);
  a = fragments<T>(32 * NA, random, &Random::real);
  b = fragments<T>(32 * NB, random, &Random::real);
  // Sums stay below 17: a few units in the last place of that.
  run(a, b, sums(random, &Random::real), "rounded", halfSums ? As::halfPairs : As::float32,
      halfSums ? 0x1p-4 : 0x1p-16);
}

}  // namespace

void recordProducts() {
  record<__nv_bfloat16, Form::m16n8k16>("mma m16n8k16 bf16");
  record<__nv_bfloat16, Form::m16n8k8>("mma m16n8k8 bf16");
  record<__half, Form::m16n8k16>("mma m16n8k16 f16");
  record<__half, Form::m16n8k8>("mma m16n8k8 f16");
  record<__half, Form::m16n8k16, true>("mma m16n8k16 f16 f16");
  record<__half, Form::m16n8k8, true>("mma m16n8k8 f16 f16");
  record<Tf32, Form::m16n8k8>("mma m16n8k8 tf32");
  record<Tf32, Form::m16n8k4>("mma m16n8k4 tf32");
  std::vector<uint32_t> values = Random(4).words(32);
  for (uint32_t& value : values) value &= 0xbfffffffu;  // no NaN and no infinity
  const Words in(values), out(32);
  roundToTf32<<<1, 32>>>(in.data(), out.data());
  out.record("toTf32");
}

}  // namespace conformance
