#include "ops/transfer.h"

#include "core/launch.h"

namespace flowmap::ops {

// A job on each of the two streams. The second waits for the first, which was enqueued before it; since every wait is
// for a job that is older than the one that waits, streams never wait in a circle.
Tensor toDevice(const Tensor& x, Device& device) {
  Device& from = x.device();
  if (&from == &device) return x;
  Recording::refuse("to", "a copy from another device to it, or back, would not be repeated; do it before the step");
  from.backend().refuse("to");
  const Tensor out = Tensor::empty(device, x.shape(), x.dtype());
  Transfer& staging = from.transfer().direct() ? device.transfer() : from.transfer();
  const auto handover = std::make_shared<Handover>();
  from.stream().enqueue(makeJob([x, &staging, handover]() noexcept {
    startDownload("to", staging, x, [handover](std::shared_ptr<HostBuffer> values, std::shared_ptr<const Error> error) {
      handover->set(std::move(values), std::move(error));
    });
  }));
  launch("to", device, {out}, {}, [out, handover](Backend&) {
    Device& to = out.device();
    if (!handover->wait([&to] { return to.stream().stopping(); })) return;
    if (handover->error()) return out.storage()->setError(handover->error());
    to.transfer().upload(out, handover->values());
  });
  return out;
}

Tensor vendorCopy(const Tensor& x) {
  const Tensor out = Tensor::empty(x.device(), x.shape(), x.dtype());
  launch("vendorCopy", x.device(), {out}, {x}, [=](Backend&) { out.device().transfer().copy(out, x); });
  return out;
}

}  // namespace flowmap::ops
