// Contracts of copies between devices, and of a device's own copy.
#pragma once

#include "core/tensor.h"

namespace flowmap::ops {

// x [...] -> [...] on `device`; shares storage where it is the same
Tensor toDevice(const Tensor& x, Device& device);

// x [...] -> [...], by the copy that the device comes with: what kernels are measured beside
Tensor vendorCopy(const Tensor& x);

}  // namespace flowmap::ops
