// Contracts of copies between devices.
#pragma once

#include "core/tensor.h"

namespace flowmap::ops {

// x [...] -> [...] on `device`; shares storage where it is the same
Tensor toDevice(const Tensor& x, Device& device);

}  // namespace flowmap::ops
