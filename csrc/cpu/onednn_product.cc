#include "cpu/onednn_product.h"

#include <omp.h>

#include <dnnl.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <unordered_map>

#include "core/error.h"
#include "cpu/product_blocks.h"

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
  int64_t allRows, allColumns;  // of the result that this is a block of
  int threads;

  Problem(const OneDnnProduct& p, const ProductBlock& block)
      : transposeA(p.transposeA),
        transposeB(p.transposeB),
        offset(p.offset),
        accumulate(p.accumulate),
        in(p.in),
        out(p.out),
        m(block.rows),
        n(block.columns),
        k(p.k),
        batches(p.batches),
        batchesA(p.batchesA),
        batchesB(p.batchesB),
        allRows(p.m),
        allColumns(p.n),
        threads(omp_get_max_threads()) {}
  auto operator<=>(const Problem&) const = default;
};

memory::data_type typeOf(DType dtype) {
  return dtype == DType::BFloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// Rows and columns of matrices that have `allRows` and `allColumns`.
memory::desc matrices(DType dtype, int64_t batches, int64_t rows, int64_t columns, int64_t allRows, int64_t allColumns,
                      bool transposed) {
  const int64_t size = allRows * allColumns;
  const memory::dims strides = transposed ? memory::dims{size, 1, allRows} : memory::dims{size, allColumns, 1};
  return {{batches, rows, columns}, typeOf(dtype), strides};
}

struct Plan {
  memory::desc a, b, offset, c, scratch;
  dnnl::matmul product;

  explicit Plan(const Problem& p)
      : a(matrices(p.in, p.batchesA, p.m, p.k, p.allRows, p.k, p.transposeA)),
        b(matrices(p.in, p.batchesB, p.k, p.n, p.k, p.allColumns, p.transposeB)),
        offset(matrices(p.in, 1, 1, p.n, 1, p.allColumns, false)),
        c(matrices(p.out, p.batches, p.m, p.n, p.allRows, p.allColumns, false)) {
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

const void* advanced(const void* data, DType dtype, int64_t elements) {
  return static_cast<const char*>(data) + elements * static_cast<int64_t>(itemSize(dtype));
}

void multiplyBlock(Device& device, const OneDnnProduct& p, const ProductBlock& block) {
  const auto plan = planFor(Problem(p, block));
  const Tensor scratch = Tensor::empty(device, {static_cast<int64_t>(plan->scratch.get_size())}, DType::Bool);
  if (scratch.numel() > 0) scratch.storage()->materialize();
  const void* a = advanced(p.a, p.in, p.transposeA ? block.row : block.row * p.k);
  const void* b = advanced(p.b, p.in, p.transposeB ? block.column * p.k : block.column);
  const void* c = advanced(p.c, p.out, block.row * p.n + block.column);
  std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, over(plan->a, a)}, {DNNL_ARG_WEIGHTS, over(plan->b, b)}, {DNNL_ARG_DST, over(plan->c, c)}};
  if (p.offset) arguments[DNNL_ARG_BIAS] = over(plan->offset, advanced(p.offset, p.in, block.column));
  if (scratch.numel() > 0) arguments[DNNL_ARG_SCRATCHPAD] = over(plan->scratch, scratch.data<uint8_t>());
  dnnl::stream stream(engine());
  plan->product.execute(stream, arguments);
  stream.wait();
}

// A part of the batch, which is cut where there are as many as threads, as they share nothing.
OneDnnProduct batchesFrom(OneDnnProduct p, int64_t begin, int64_t end) {
  p.batches = end - begin;
  if (p.batchesA > 1) p.a = advanced(p.a, p.in, begin * p.m * p.k), p.batchesA = p.batches;
  if (p.batchesB > 1) p.b = advanced(p.b, p.in, begin * p.k * p.n), p.batchesB = p.batches;
  p.c = const_cast<void*>(advanced(p.c, p.out, begin * p.m * p.n));
  return p;
}

}  // namespace

void oneDnnProduct(Device& device, const OneDnnProduct& p) {
  try {
    if (p.batches < teamSize() || p.batches == 1) {
      forProductBlocks(p.m, p.n, p.k * p.batches, [&](const ProductBlock& block) { multiplyBlock(device, p, block); });
      return;
    }
    KeptError error;
    parallelFor(p.batches, p.batches * p.m * p.n * p.k >= kLeastProduct, 1, [&](int64_t begin, int64_t end) {
      error.keep([&] { multiplyBlock(device, batchesFrom(p, begin, end), {0, p.m, 0, p.n}); });
    });
    error.rethrow();
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
