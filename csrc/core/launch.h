// Enqueues one kernel call. Contracts in csrc/ops check, create outputs, and end in a launch.
#pragma once

#include <array>
#include <exception>
#include <memory>
#include <new>
#include <vector>

#include "core/backend.h"
#include "core/tensor.h"

namespace flowmap {

// Runs `run(backend)` on the stream of `device` once all earlier jobs have run. Outputs get memory just before.
// `run` must hold its tensors by value. A failure marks the outputs; a failed input marks them without running.
template <class Run>
void launch(const char* op, Device& device, std::vector<Tensor> outputs, std::vector<Tensor> inputs, Run run) {
  device.backend().refuse(op);
  device.stream().enqueue(
      makeJob([op, &device, outputs = std::move(outputs), inputs = std::move(inputs), run = std::move(run)]() noexcept {
        const auto failWith = [&](std::shared_ptr<const Error> error) {
          for (const Tensor& output : outputs) {
            if (output) output.storage()->setError(error);
          }
        };
        for (const Tensor& input : inputs) {
          if (!input || !input.storage()->error()) continue;
          // An in-place op (an optimiser's step) given a failed input leaves its targets as they were: nothing is lost,
          // and the error is read where it arose.
          if (!outputs.empty() && outputs[0] && outputs[0].storage()->data()) return;
          return failWith(input.storage()->error());
        }
        try {
          device.backend().enter(op);
          for (const Tensor& output : outputs) {
            if (output) output.storage()->materialize();
          }
          run(device.backend());
          device.backend().leave();
        } catch (const DeviceLost& error) {
          failWith(std::make_shared<const Error>(error));
        } catch (const Error& error) {
          failWith(std::make_shared<const Error>(error.code(), op, error.detail()));
        } catch (const std::bad_alloc&) {
          failWith(std::make_shared<const Error>(ErrorCode::OutOfMemory, op, "the system allocator failed"));
        } catch (const std::exception& error) {
          failWith(std::make_shared<const Error>(ErrorCode::Internal, op, error.what()));
        }
      }));
}

}  // namespace flowmap
