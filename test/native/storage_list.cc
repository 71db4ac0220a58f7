// What an op touches: few storages and many, absent ones left out, each held for as long as a list has it.
#include "core/storage_list.h"

#include <cstdio>

#include "core/device.h"
#include "expect.h"

using namespace flowmap;

namespace {

void holds(size_t count) {
  Device& device = deviceByName("test", "cpu");
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < count; ++i) {
    tensors.push_back(Tensor::empty(device, {static_cast<int64_t>(i) + 1}, DType::Float32));
    tensors.emplace_back();
  }
  std::vector<std::weak_ptr<Storage>> storages;
  for (const Tensor& x : tensors) {
    if (x) storages.push_back(x.storage());
  }
  {
    StorageList list(tensors), copy = list, moved;
    moved = std::move(list);
    StorageList added;
    for (const Tensor& x : tensors) added.add(x);
    tensors.clear();
    for (const StorageList* each : {&copy, &moved, &added}) {
      expect(each->empty() == (count == 0), "empty where there are none");
      size_t at = 0;
      for (const std::shared_ptr<Storage>& storage : *each) {
        expect(at < count && storage == storages[at].lock(), "each, in order");
        ++at;
      }
      expect(at == count, "all");
      if (count > 0) expect(each->front() == storages[0].lock(), "the first");
    }
    for (const auto& storage : storages) expect(storage.use_count() == 3, "held by each list once");
  }
  for (const auto& storage : storages) expect(storage.expired(), "let go");
}

void takesTensorsInBraces() {
  Device& device = deviceByName("test", "cpu");
  const Tensor a = Tensor::empty(device, {2}, DType::Float32), b = Tensor::empty(device, {3}, DType::Float32), none;
  const StorageList list{none, a, b.withShape({3, 1})};
  expect(list.end() - list.begin() == 2 && list.front() == a.storage() && list.begin()[1] == b.storage(), "in braces");
  expect(StorageList{}.empty() && StorageList{none}.empty(), "none in braces");
}

}  // namespace

int main() {
  for (size_t count = 0; count < 12; ++count) holds(count);
  takesTensorsInBraces();
  std::puts("storage_list: ok");
  return 0;
}
