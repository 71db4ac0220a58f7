// How values come to a device and leave it. Nothing here blocks JavaScript's thread, nor the stream's for longer than
// it takes to start a copy.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>

#include "core/error.h"

namespace flowmap {

class Tensor;

// Host memory that copies go through. Goes back to whoever made it when the last reference ends, on any thread.
class HostBuffer {
 public:
  virtual ~HostBuffer() = default;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 protected:
  HostBuffer(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}

 private:
  std::byte* data_;
  size_t bytes_;
};

// The values, or why there are none. Called once, on any thread; must not throw.
using Arrival = std::function<void(std::shared_ptr<HostBuffer> values, std::shared_ptr<const Error> error)>;

class Transfer {
 public:
  virtual ~Transfer() = default;

  // Whether a tensor's memory is host memory, to be read and written without a copy in between.
  virtual bool direct() const = 0;

  // Memory that this device copies from and to fastest. Any thread; throws Error(OutOfMemory).
  virtual std::shared_ptr<HostBuffer> buffer(size_t bytes) = 0;

  // On the stream's thread. `from` is kept until it has been read; `out` has memory. Throws.
  virtual void upload(const Tensor& out, std::shared_ptr<HostBuffer> from) = 0;

  // On the stream's thread: `arrival` comes when `to` has the values of x. Throws before, or calls, never both.
  virtual void download(std::shared_ptr<HostBuffer> to, const Tensor& x, Arrival arrival) = 0;

  // On the stream's thread: x into out, as large and of the same device, by the copy that the device comes with.
  // Throws.
  virtual void copy(const Tensor& out, const Tensor& x) = 0;

  // On the stream's thread: `arrival` comes, without values, when all that was started before has ended.
  virtual void flush(Arrival arrival) = 0;

  // After the stream has stopped: drops arrivals still to come.
  virtual void stop() {}
};

// Host memory as it is: the CPU's transfer.
class HostTransfer final : public Transfer {
 public:
  bool direct() const override { return true; }
  std::shared_ptr<HostBuffer> buffer(size_t bytes) override;
  void upload(const Tensor& out, std::shared_ptr<HostBuffer> from) override;
  void download(std::shared_ptr<HostBuffer> to, const Tensor& x, Arrival arrival) override;
  void copy(const Tensor& out, const Tensor& x) override;
  void flush(Arrival arrival) override { arrival(nullptr, nullptr); }
};

// On the stream's thread of x: its values in a buffer of `staging`, or the error of x, or what went wrong.
void startDownload(const char* op, Transfer& staging, const Tensor& x, const Arrival& arrival);

// What one thread waits for and another brings.
class Handover {
 public:
  void set(std::shared_ptr<HostBuffer> values, std::shared_ptr<const Error> error);
  // False when `abandon`, asked now and then, said so.
  bool wait(const std::function<bool()>& abandon);
  // After wait.
  const std::shared_ptr<HostBuffer>& values() const { return values_; }
  const std::shared_ptr<const Error>& error() const { return error_; }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  bool set_ = false;
  std::shared_ptr<HostBuffer> values_;
  std::shared_ptr<const Error> error_;
};

}  // namespace flowmap
