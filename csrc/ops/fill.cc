#include "ops/fill.h"

#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {

Tensor full(Device& device, const Shape& shape, DType dtype, double value) {
  checkSizes("full", "shape", shape, dtype);
  const Tensor out = Tensor::empty(device, shape, dtype);
  launch("full", device, {out}, {}, [=](Backend& backend) { backend.fill(out, value); });
  return out;
}

}  // namespace flowmap::ops
