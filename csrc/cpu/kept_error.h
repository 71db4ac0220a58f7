// Errors cannot leave the parts of parallel work, so the first is kept until all have ended.
#pragma once

#include <exception>
#include <mutex>

namespace flowmap::cpu {

class KeptError {
 public:
  template <class Body>
  void keep(Body body) noexcept {
    try {
      body();
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace flowmap::cpu
