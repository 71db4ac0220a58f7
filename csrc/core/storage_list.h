// The storages of some tensors, absent ones left out. Few are stored inline: every op lists what it touches, and is not
// to pay an allocation for it.
#pragma once

#include <array>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace flowmap {

class StorageList {
 public:
  // A tensor in braces, which is not copied for it.
  struct Given {
    Given(const Tensor& tensor) : storage(tensor.storage()) {}
    const std::shared_ptr<Storage>& storage;
  };

  StorageList() = default;
  StorageList(std::initializer_list<Given> tensors) {
    for (const Given& tensor : tensors) add(tensor.storage);
  }
  StorageList(const std::vector<Tensor>& tensors) {
    for (const Tensor& tensor : tensors) add(tensor.storage());
  }

  void add(const Tensor& tensor) { add(tensor.storage()); }

  bool empty() const { return size_ == 0; }
  const std::shared_ptr<Storage>* begin() const { return many_.empty() ? few_.data() : many_.data(); }
  const std::shared_ptr<Storage>* end() const { return begin() + size_; }
  const std::shared_ptr<Storage>& front() const { return *begin(); }

 private:
  static constexpr size_t kFew = 4;

  void add(const std::shared_ptr<Storage>& storage) {
    if (!storage) return;
    if (size_ < kFew) {
      few_[size_++] = storage;
      return;
    }
    if (many_.empty()) {
      many_.assign(std::make_move_iterator(few_.begin()), std::make_move_iterator(few_.end()));
    }
    many_.push_back(storage);
    ++size_;
  }

  std::array<std::shared_ptr<Storage>, kFew> few_;
  std::vector<std::shared_ptr<Storage>> many_;  // all of them, where there are more
  size_t size_ = 0;
};

}  // namespace flowmap
