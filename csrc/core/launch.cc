#include "core/launch.h"

#include <exception>
#include <memory>
#include <new>

namespace flowmap {
namespace {

// `failed` is told what `body` throws, under the name of the op.
template <class Failed, class Body>
void attempt(const char* op, const Failed& failed, const Body& body) noexcept {
  try {
    body();
  } catch (const DeviceLost& error) {
    failed(error);
  } catch (const Error& error) {
    failed(Error(error.code(), op, error.detail()));
  } catch (const std::bad_alloc&) {
    failed(Error(ErrorCode::OutOfMemory, op, "the system allocator failed"));
  } catch (const std::exception& error) {
    failed(Error(ErrorCode::Internal, op, error.what()));
  }
}

}  // namespace

void admit(const char* op, Device& device) {
  device.backend().refuse(op);
  const Recording* recording = Recording::ofThread();
  if (recording && &recording->device() != &device) {
    fail(ErrorCode::Device, op, "a step is being recorded on ", recording->device(), ", and a replay would not repeat ",
         "this on ", device, "; do it before the step");
  }
}

void perform(const char* op, Device& device, const StorageList& outputs, const StorageList& inputs,
             const std::function<void(Recording*)>& body) noexcept {
  Recording* const recording = device.recording();
  const auto failWith = [&](std::shared_ptr<const Error> error) {
    if (recording) recording->setFailure(error);
    for (const auto& output : outputs) {
      // A recording fails as a whole, and what was there before it is as it was.
      if (!(recording && output->data())) output->setError(error);
    }
  };
  const auto failed = [&](const Error& error) { failWith(std::make_shared<const Error>(error)); };
  if (recording && recording->failure()) return failWith(recording->failure());
  for (const auto& input : inputs) {
    if (!input->error()) continue;
    if (recording) return failWith(input->error());
    // An in-place op (an optimiser's step) given a failed input leaves its targets as they were: nothing is lost,
    // and the error is read where it arose.
    if (!outputs.empty() && outputs.front()->data()) return;
    return failWith(input->error());
  }
  attempt(op, failed, [&] {
    // Nothing runs while recording, so nothing is waited for and no op can be what fails the device.
    if (recording) {
      device.backend().refuse(op);
      return body(recording);
    }
    device.backend().enter(op);
    for (const auto& output : outputs) output->materialize();
    body(nullptr);
    device.backend().leave();
  });
}

void repeat(const char* op, Device& device, const Touched& touched, bool inPlace, const ReplayedRun& run,
            const Numbers& numbers) noexcept {
  const auto failWith = [&](const std::shared_ptr<const Error>& error) {
    for (const auto& output : touched.outputs) output->setError(error);
  };
  for (const auto& input : touched.inputs) {
    if (!input->error()) continue;
    if (!inPlace) failWith(input->error());
    return;
  }
  const auto failed = [&](const Error& error) { failWith(std::make_shared<const Error>(error)); };
  attempt(op, failed, [&] {
    device.backend().enter(op);
    run(device.backend(), numbers);
    device.backend().leave();
  });
}

}  // namespace flowmap
