// Enqueues one kernel call. Contracts in csrc/ops check, create outputs, and end in a launch.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/recording.h"
#include "core/storage_list.h"
#include "core/tensor.h"

namespace flowmap {

// On the calling thread: throws where the device has failed, or where this thread records on another device.
void admit(const char* op, Device& device);

// One op on the stream's thread: gives outputs memory and calls `body` with the recording in progress, if any. A
// failure marks the outputs; a failed input marks them without running.
void perform(const char* op, Device& device, const StorageList& outputs, const StorageList& inputs,
             const std::function<void(Recording*)>& body) noexcept;

// The same for an op of a recording that is run again: memory is there already. `inPlace` says that outputs held values
// before, which a failed input leaves as they are.
void repeat(const char* op, Device& device, const Touched& touched, bool inPlace, const ReplayedRun& run,
            const Numbers& numbers) noexcept;

// What `launch` enqueues.
template <class Run>
class LaunchJob final : public Stream::Job {
 public:
  LaunchJob(const char* op, Device& device, StorageList&& outputs, StorageList&& inputs, Run&& run)
      : op_(op), device_(device), touched_{std::move(outputs), std::move(inputs)}, run_(std::move(run)) {}

  void run() noexcept override {
    perform(op_, device_, touched_.outputs, touched_.inputs, [this](Recording* recording) {
      if (recording) return recording->capture(op_, touched_, run_);
      run_(device_.backend());
    });
  }

 private:
  const char* op_;
  Device& device_;
  Touched touched_;
  Run run_;
};

// Runs `run(backend)` on the stream of `device` once all earlier jobs have run. Outputs get memory just before.
// `run` must hold its tensors by value, and do the same each time it is called. Outputs and inputs are all the tensors
// it touches: recorded steps plan memory by them. A failure marks the outputs; a failed input marks them without
// running.
template <class Run>
void launch(const char* op, Device& device, StorageList outputs, StorageList inputs, Run run) {
  admit(op, device);
  device.stream().enqueue(
      std::make_unique<LaunchJob<Run>>(op, device, std::move(outputs), std::move(inputs), std::move(run)));
}

// The same for an op with numbers that change from step to step: a recording runs it anew in each replay, with the
// numbers of that replay. `check` throws where they do not fit; `run` may hold nothing but what never changes.
inline void launchVarying(const char* op, Device& device, std::vector<Tensor> outputs, std::vector<Tensor> inputs,
                          Numbers numbers, NumbersCheck check, VaryingRun run) {
  admit(op, device);
  if (check) check(numbers);
  device.stream().enqueue(
      makeJob([op, &device, operands = Operands{std::move(outputs), std::move(inputs)}, numbers = std::move(numbers),
               check = std::move(check), run = std::move(run)]() noexcept {
        perform(op, device, operands.outputs, operands.inputs, [&](Recording* recording) {
          if (recording) return recording->defer(op, operands, numbers, check, run);
          run(device.backend(), operands, numbers);
        });
      }));
}

}  // namespace flowmap
