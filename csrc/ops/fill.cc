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

Tensor arange(Device& device, double start, double stop, double step, DType dtype) {
  checkFinite("arange", "start", start);
  checkFinite("arange", "stop", stop);
  checkFinite("arange", "step", step);
  if (step == 0) fail(ErrorCode::Argument, "arange", "step must not be 0");
  const double count = std::max(0.0, std::ceil((stop - start) / step));
  if (!(count < 0x1p50)) fail(ErrorCode::Shape, "arange", "the range has more elements than can be addressed: ", count);
  const Shape shape{static_cast<int64_t>(count)};
  checkSizes("arange", "the result", shape, dtype);
  const Tensor out = Tensor::empty(device, shape, dtype);
  launch("arange", device, {out}, {}, [=](Backend& backend) { backend.arange(out, start, step); });
  return out;
}

Tensor eye(Device& device, int64_t rows, int64_t columns, DType dtype) {
  const Shape shape{rows, columns};
  checkSizes("eye", "shape", shape, dtype);
  const Tensor out = Tensor::empty(device, shape, dtype);
  launch("eye", device, {out}, {}, [=](Backend& backend) { backend.eye(out); });
  return out;
}

}  // namespace flowmap::ops
