// Softmax of whole rows.
#pragma once

#include <cstdint>

namespace flowmap::cpu {

// y = softmax(x) over the row.
void softmaxRow(int64_t dim, const float* x, float* y);
void softmaxRow(int64_t dim, const double* x, double* y);

}  // namespace flowmap::cpu
