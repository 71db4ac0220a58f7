// One exception for everything a caller can be told. The binding turns it into the TypeScript class of the same code.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

namespace flowmap {

enum class ErrorCode { Shape, DType, Device, DeviceUnavailable, Disposed, Argument, OutOfMemory, Numerical, Internal };

// What is to happen, once, when JavaScript learns of an error, or when nobody is left who could tell it.
class Told {
 public:
  explicit Told(std::function<void()> act) : act_(std::move(act)) {}
  Told(const Told&) = delete;
  Told& operator=(const Told&) = delete;
  ~Told() { tell(); }
  void tell() {
    if (!done_.exchange(true)) act_();
  }

 private:
  const std::function<void()> act_;
  std::atomic<bool> done_ = false;
};

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string op, std::string detail)
      : code_(code), op_(std::move(op)), detail_(std::move(detail)), what_(op_ + ": " + detail_) {}
  ErrorCode code() const { return code_; }
  const std::string& op() const { return op_; }
  const std::string& detail() const { return detail_; }
  const char* what() const noexcept override { return what_.c_str(); }
  // Before it is thrown.
  void onTold(std::function<void()> act) { told_ = std::make_shared<Told>(std::move(act)); }
  // By the thread that is about to show it to JavaScript.
  void tell() const {
    if (told_) told_->tell();
  }

 private:
  ErrorCode code_;
  std::string op_;
  std::string detail_;
  std::string what_;
  std::shared_ptr<Told> told_;  // of all copies
};

// A device has failed for good. `op` is the one that did it, or, once that has been told, the one that met it.
class DeviceLost : public Error {
 public:
  DeviceLost(std::string op, std::string detail) : Error(ErrorCode::Device, std::move(op), std::move(detail)) {}
};

// Concatenates its arguments as text: `fail(ErrorCode::Shape, "matmul", "x must have rank 2, got ", x.shape())`.
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const std::string& op, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(code, op, text.str());
}

}  // namespace flowmap
