// What a call of attention needs before its kernels run: verdicts on what only the device sees, the statistics of
// QKNorm, the means of keys; and what leads gradients back through QKNorm.
#pragma once

#include <optional>

#include "core/backend.h"
#include "cuda/attention.h"
#include "cuda/scratch.h"

namespace flowmap::cuda {

class PreparedAttention {
 public:
  // `out` is what the op computes. The fused kernels normalise in shared memory; the composition is given operands that
  // are normalised already.
  PreparedAttention(Runtime& runtime, Backend& backend, const AttentionGeometry& geometry, const AttentionOperands& in,
                    const Tensor& out, bool fused);

  AttentionCall call() const { return {geometry_, in_, sound_.data(), queries_, keys_}; }

 private:
  void prepareFused(const Runtime& runtime);
  void prepareComposed(const Runtime& runtime, Backend& backend);

  const AttentionGeometry& geometry_;
  AttentionOperands in_;
  AttentionNorm queries_, keys_;
  const Scratch<int32_t> sound_;
  std::optional<Scratch<float2>> queryRows_, keyRows_;
  std::optional<Scratch<double>> means_;
};

// The gradients of normalised operands, and their way on to those of the operands; where there is no QKNorm, the
// latter.
class NormedGradients {
 public:
  NormedGradients(const AttentionGeometry& geometry, const AttentionGradients& out, const AttentionOperands& in,
                  bool tangentCotangent);

  const AttentionGradients& attention() const { return inner_; }
  void finish(const Runtime& runtime, Backend& backend, const AttentionCall& call, const AttentionOperands& in) const;

 private:
  const AttentionGeometry& geometry_;
  const AttentionGradients& out_;
  AttentionGradients inner_;
};

}  // namespace flowmap::cuda
