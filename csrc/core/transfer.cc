#include "core/transfer.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/backend.h"
#include "core/tensor.h"

namespace flowmap {
namespace {

class HeapBuffer final : public HostBuffer {
 public:
  HeapBuffer(std::byte* data, size_t bytes) : HostBuffer(data, bytes) {}
  ~HeapBuffer() override { std::free(data()); }
};

}  // namespace

std::shared_ptr<HostBuffer> HostTransfer::buffer(size_t bytes) {
  auto* data = static_cast<std::byte*>(std::malloc(bytes ? bytes : 1));
  if (!data) fail(ErrorCode::OutOfMemory, "buffer", "no host memory for a copy of ", bytes, " bytes");
  return std::make_shared<HeapBuffer>(data, bytes);
}

void HostTransfer::upload(const Tensor& out, std::shared_ptr<HostBuffer> from) {
  if (out.bytes()) std::memcpy(out.data(), from->data(), out.bytes());
}

void HostTransfer::download(std::shared_ptr<HostBuffer> to, const Tensor& x, Arrival arrival) {
  if (x.bytes()) std::memcpy(to->data(), x.data(), x.bytes());
  arrival(std::move(to), nullptr);
}

void HostTransfer::copy(const Tensor& out, const Tensor& x) {
  if (x.bytes()) std::memcpy(out.data(), x.data(), x.bytes());
}

void startDownload(const char* op, Transfer& staging, const Tensor& x, const Arrival& arrival) {
  std::shared_ptr<const Error> error = x.storage()->error();
  if (!error) {
    try {
      x.device().backend().refuse(op);
      x.device().transfer().download(staging.buffer(x.bytes()), x, arrival);
      return;
    } catch (const DeviceLost& caught) {
      error = std::make_shared<const Error>(caught);
    } catch (const Error& caught) {
      error = std::make_shared<const Error>(caught.code(), op, caught.detail());
    } catch (const std::bad_alloc&) {
      error = std::make_shared<const Error>(ErrorCode::OutOfMemory, op, "no host memory for the copy");
    }
  }
  arrival(nullptr, std::move(error));
}

void Handover::set(std::shared_ptr<HostBuffer> values, std::shared_ptr<const Error> error) {
  {
    std::lock_guard lock(mutex_);
    values_ = std::move(values);
    error_ = std::move(error);
    set_ = true;
  }
  arrived_.notify_all();
}

bool Handover::wait(const std::function<bool()>& abandon) {
  std::unique_lock lock(mutex_);
  while (!arrived_.wait_for(lock, std::chrono::milliseconds(20), [this] { return set_; })) {
    lock.unlock();
    if (abandon()) return false;
    lock.lock();
  }
  return true;
}

}  // namespace flowmap
