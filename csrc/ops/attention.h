// Contracts of attention. B batch, H query heads, Hk key heads (H a multiple of Hk), Sq queries, Sk keys, D head size
// up to 256. Layout "BHSD": q [B, H, Sq, D], k and v [B, Hk, Sk, D]; "BSHD": q [B, Sq, H, D], k and v [B, Sk, Hk, D].
// S = scale q kᵀ, T = scale (tq kᵀ + q tkᵀ), P = softmax(S), mu_i = Σ_j P_ij T_ij; o = P v, to = (P∘(T − mu)) v + P tv.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "core/optional_tensor.h"

namespace flowmap::ops {

// -> o, lse [B, H, Sq]. keyLengths: int32 [B], how many keys of each batch row count. causal: query i sees the keys up
// to i + Sk − Sq. A query that sees no key gives zeros.
std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                     const OptionalTensor& keyLengths, const std::string& layout, bool causal,
                                     double scale);

// -> o, to, lse, mu. Absent tangents are zero.
std::tuple<Tensor, Tensor, Tensor, Tensor> attentionJvp(const Tensor& q, const Tensor& k, const Tensor& v,
                                                        const OptionalTensor& tq, const OptionalTensor& tk,
                                                        const OptionalTensor& tv, const OptionalTensor& keyLengths,
                                                        const std::string& layout, bool causal, double scale);

// Pulls the cotangents g of o and h of to back -> gq, gk, gv, gtq, gtk, gtv, absent where `needs` (six flags, in this
// order) says so. to and mu come from attentionJvp, and are absent where the forward pass had no tangent.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> attentionJvpVjp(
    const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& tq, const OptionalTensor& tk,
    const OptionalTensor& tv, const Tensor& o, const OptionalTensor& to, const Tensor& lse, const OptionalTensor& mu,
    const OptionalTensor& g, const OptionalTensor& h, const OptionalTensor& keyLengths, const std::string& layout,
    bool causal, double scale, const std::vector<int64_t>& needs);

}  // namespace flowmap::ops
