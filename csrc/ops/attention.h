// Contracts of attention. B batch, H query heads, Hk key heads (H a multiple of Hk), Sq queries, Sk keys, D head size
// up to 256. S = scale q kᵀ, T = scale (tq kᵀ + q tkᵀ), P = softmax(S), mu_i = Σ_j P_ij T_ij; o = P v,
// to = (P∘(T − mu)) v + P tv.
//
// layout "BHSD": q [B, H, Sq, D], k and v [B, Hk, Sk, D]; "BSHD": q [B, Sq, H, D], k and v [B, Sk, Hk, D]; "SHD",
// packed sequences: q [Σ Sq, H, D], k and v [Σ Sk, Hk, D].
// sequences: keyLengths, int32 [B], how many keys of each batch row count (absent: all); queryOffsets and keyOffsets,
// int32 [N + 1], of layout "SHD" alone: where sequences begin, and the last one ends.
// causal: query i sees the keys up to i + Sk − Sq (of its sequence). A query that sees no key gives zeros.
// weights: qWeight and kWeight, [D] (absent: ones), of `normalize`: q and k are then RMS-normalised head by head, with
// eps, and multiplied by them (QKNorm). centerKeys: the keys' mean is taken off first, which changes no result but for
// rounding.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "core/optional_tensor.h"

namespace flowmap::ops {

using OptionalTensors = std::vector<OptionalTensor>;

// -> o, lse [B, H, Sq] (packed: [H, Σ Sq]).
std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensors& weights,
                                     const OptionalTensors& sequences, const std::string& layout, bool causal,
                                     double scale, bool normalize, double eps, bool centerKeys);

// -> o, to, lse, mu. Absent tangents are zero.
std::tuple<Tensor, Tensor, Tensor, Tensor> attentionJvp(const Tensor& q, const Tensor& k, const Tensor& v,
                                                        const OptionalTensor& tq, const OptionalTensor& tk,
                                                        const OptionalTensor& tv, const OptionalTensors& weights,
                                                        const OptionalTensors& sequences, const std::string& layout,
                                                        bool causal, double scale, bool normalize, double eps,
                                                        bool centerKeys);

// Pulls the cotangents g of o and h of to back -> gq, gk, gv, gtq, gtk, gtv, gqWeight, gkWeight, absent where `needs`
// (eight flags, in this order) says so. to and mu come from attentionJvp, and are absent where the forward pass had no
// tangent. Not deterministic: a device may add gradients up in any order.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> attentionJvpVjp(
    const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& tq, const OptionalTensor& tk,
    const OptionalTensor& tv, const Tensor& o, const OptionalTensor& to, const Tensor& lse, const OptionalTensor& mu,
    const OptionalTensor& g, const OptionalTensor& h, const OptionalTensors& weights, const OptionalTensors& sequences,
    const std::string& layout, bool causal, double scale, bool normalize, double eps, bool centerKeys,
    bool deterministic, const std::vector<int64_t>& needs);

}  // namespace flowmap::ops
