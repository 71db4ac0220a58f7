// One exception for everything a caller can be told. The binding turns it into the TypeScript class of the same code.
#pragma once

#include <exception>
#include <sstream>
#include <string>
#include <utility>

namespace flowmap {

enum class ErrorCode { Shape, DType, Device, DeviceUnavailable, Disposed, Argument, OutOfMemory, Numerical, Internal };

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string op, std::string detail)
      : code_(code), op_(std::move(op)), detail_(std::move(detail)), what_(op_ + ": " + detail_) {}
  ErrorCode code() const { return code_; }
  const std::string& op() const { return op_; }
  const std::string& detail() const { return detail_; }
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  ErrorCode code_;
  std::string op_;
  std::string detail_;
  std::string what_;
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
