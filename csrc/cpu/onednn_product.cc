#include "cpu/onednn_product.h"

#include <omp.h>

#include <dnnl.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <unordered_map>

#include "core/error.h"

namespace flowmap::cpu {
namespace {

using dnnl::memory;

// oneDNN's objects live as long as the process: other threads may use them while it ends.
const dnnl::engine& engine() {
  static const auto& made = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return made;
}

// What oneDNN generates code for.
struct Problem {
  bool transposeA, transposeB, offset, accumulate;
  DType in, out;
  int64_t m, n, k, batches, batchesA, batchesB;
  int threads;

  explicit Problem(const OneDnnProduct& p)
      : transposeA(p.transposeA),
        transposeB(p.transposeB),
        offset(p.offset),
        accumulate(p.accumulate),
        in(p.in),
        out(p.out),
        m(p.m),
        n(p.n),
        k(p.k),
        batches(p.batches),
        batchesA(p.batchesA),
        batchesB(p.batchesB),
        threads(omp_get_max_threads()) {}
  auto operator<=>(const Problem&) const = default;
};

memory::data_type typeOf(DType dtype) {
  return dtype == DType::BFloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory::desc matrices(DType dtype, int64_t batches, int64_t rows, int64_t columns, bool transposed) {
  const memory::dims strides =
      transposed ? memory::dims{rows * columns, 1, rows} : memory::dims{rows * columns, columns, 1};
  return {{batches, rows, columns}, typeOf(dtype), strides};
}

struct Plan {
  memory::desc a, b, offset, c, scratch;
  dnnl::matmul product;

  explicit Plan(const Problem& p)
      : a(matrices(p.in, p.batchesA, p.m, p.k, p.transposeA)),
        b(matrices(p.in, p.batchesB, p.k, p.n, p.transposeB)),
        offset(matrices(p.in, 1, 1, p.n, false)),
        c(matrices(p.out, p.batches, p.m, p.n, false)) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // the library's own is not for several threads
    if (p.accumulate) {
      dnnl::post_ops operations;
      operations.append_sum(1.0f);
      attributes.set_post_ops(operations);
    }
    const auto chosen = describe(p, attributes);
    scratch = chosen.scratchpad_desc();
    product = dnnl::matmul(chosen);
  }

 private:
  dnnl::matmul::primitive_desc describe(const Problem& p, const dnnl::primitive_attr& attributes) const {
#if DNNL_VERSION_MAJOR >= 3
    if (p.offset) return {engine(), a, b, offset, c, attributes};
    return {engine(), a, b, c, attributes};
#else
    if (p.offset) return {dnnl::matmul::desc(a, b, offset, c), attributes, engine()};
    return {dnnl::matmul::desc(a, b, c), attributes, engine()};
#endif
  }
};

// Describing a product takes oneDNN 3 to 60 µs even where its code is there, so plans are kept; all are dropped when
// there are too many, as by data whose sizes never return.
std::shared_ptr<const Plan> planFor(const Problem& problem) {
  constexpr size_t kMost = 1024;
  static auto& mutex = *new std::mutex;
  static auto& plans = *new std::map<Problem, std::shared_ptr<const Plan>>;
  std::lock_guard lock(mutex);
  if (const auto found = plans.find(problem); found != plans.end()) return found->second;
  if (plans.size() >= kMost) plans.clear();
  return plans[problem] = std::make_shared<const Plan>(problem);
}

memory over(const memory::desc& desc, const void* data) { return {desc, engine(), const_cast<void*>(data)}; }

}  // namespace

void oneDnnProduct(Device& device, const OneDnnProduct& p) {
  try {
    const auto plan = planFor(Problem(p));
    const Tensor scratch = Tensor::empty(device, {static_cast<int64_t>(plan->scratch.get_size())}, DType::Bool);
    if (scratch.numel() > 0) scratch.storage()->materialize();
    std::unordered_map<int, memory> arguments{
        {DNNL_ARG_SRC, over(plan->a, p.a)}, {DNNL_ARG_WEIGHTS, over(plan->b, p.b)}, {DNNL_ARG_DST, over(plan->c, p.c)}};
    if (p.offset) arguments[DNNL_ARG_BIAS] = over(plan->offset, p.offset);
    if (scratch.numel() > 0) arguments[DNNL_ARG_SCRATCHPAD] = over(plan->scratch, scratch.data<uint8_t>());
    dnnl::stream stream(engine());
    plan->product.execute(stream, arguments);
    stream.wait();
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory)
      fail(ErrorCode::OutOfMemory, "gemm", "oneDNN found no memory for its buffers");
    fail(ErrorCode::Internal, "gemm", "oneDNN failed with status ", static_cast<int>(error.status), ": ", error.what());
  }
}

bool multipliesBFloat16() {
  static const bool does =
      (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
  return does;
}

}  // namespace flowmap::cpu
