#include "core/recording.h"

#include <sstream>
#include <utility>

#include "core/check.h"
#include "core/launch.h"

namespace flowmap {
namespace {

constexpr char kOp[] = "captureGraph";

thread_local Recording* ofThisThread = nullptr;

}  // namespace

// ---- JavaScript's threads ----

void Recording::requireGraphs(const std::string& op, Device& device) {
  if (!device.graphs()) fail(ErrorCode::Device, op, "'", device, "' has no graphs: call the step itself");
}

Recording* Recording::ofThread() { return ofThisThread; }

void Recording::refuse(const char* op, const char* why) {
  if (!ofThisThread) return;
  std::ostringstream text;
  text << "a step is being recorded on " << ofThisThread->device() << ": " << why;
  const Error error(ErrorCode::Argument, op, text.str());
  if (!ofThisThread->refused_) ofThisThread->refused_ = std::make_shared<const Error>(error);
  throw error;
}

std::shared_ptr<Recording> Recording::start(Device& device, const std::vector<Tensor>& examples,
                                            const Abandon& abandon) {
  requireGraphs(kOp, device);
  refuse(kOp, "another cannot begin inside it");
  device.backend().refuse(kOp);
  const auto recording = std::make_shared<Recording>(device);
  for (const Tensor& example : examples) {
    recording->inputs_.push_back(Tensor::empty(device, example.shape(), example.dtype()));
  }
  if (!device.stream().hold(abandon)) return nullptr;
  try {
    device.stream().enqueue(makeJob([recording]() noexcept { recording->begin(); }));
  } catch (...) {
    device.stream().unhold();
    throw;
  }
  ofThisThread = recording.get();
  return recording;
}

void Recording::leaveThread() {
  ofThisThread = nullptr;
  device_.stream().unhold();
}

bool Recording::finish(std::vector<Tensor> outputs, const Abandon& abandon) {
  if (ofThisThread != this) fail(ErrorCode::Argument, kOp, "this recording has ended");
  for (const Tensor& output : outputs) {
    if (&output.device() != &device_) {
      fail(ErrorCode::Device, kOp, "the step must return tensors of ", device_, ", got one of ", output.device());
    }
  }
  if (refused_) {
    this->abandon();
    throw *refused_;
  }
  const auto ended = std::make_shared<Handover>();
  try {
    device_.stream().enqueue(makeJob([self = shared_from_this(), outputs = std::move(outputs), ended]() noexcept {
      self->end(outputs);
      ended->set(nullptr, self->failure_);
    }));
  } catch (...) {
    leaveThread();
    throw;
  }
  leaveThread();
  if (!ended->wait(abandon)) return false;
  if (ended->error()) throw *ended->error();
  return true;
}

void Recording::abandon() {
  const auto why = std::make_shared<const Error>(ErrorCode::Argument, kOp, "the step that was to compute this threw");
  device_.stream().enqueue(makeJob([self = shared_from_this(), why]() noexcept {
    self->setFailure(why);
    self->end({});
  }));
  leaveThread();
}

std::vector<Tensor> Recording::replay(const std::vector<Tensor>& inputs, const Numbers& numbers) {
  device_.backend().refuse(kOp);
  refuse(kOp, "another cannot run inside it");
  if (inputs.size() != contents_->inputs.size()) {
    fail(ErrorCode::Argument, kOp, "the recording has ", contents_->inputs.size(), " inputs, got ", inputs.size());
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    checkDevice(kOp, "inputs", inputs[i], device_);
    checkSame(kOp, "inputs", inputs[i], contents_->inputs[i]);
  }
  size_t expected = 0;
  for (const Item& item : contents_->items) expected += item.numbers;
  if (expected != numbers.size()) {
    fail(ErrorCode::Internal, kOp, "the recording has ", expected, " varying numbers, got ", numbers.size());
  }
  auto next = numbers.begin();
  for (const Item& item : contents_->items) {
    if (item.check) item.check(Numbers(next, next + item.numbers));
    next += item.numbers;
  }
  std::vector<Tensor> outputs;
  for (const Tensor& output : contents_->outputs) outputs.push_back(Tensor::emptyLike(output));
  device_.stream().enqueue(makeJob(
      [self = shared_from_this(), outputs, inputs, numbers]() noexcept { self->run(outputs, inputs, numbers); }));
  return outputs;
}

void Recording::dispose() {
  device_.stream().enqueue(makeJob([self = shared_from_this()]() noexcept { self->release(); }));
}

Recording::~Recording() {
  // The stream has ended and with it the use of CUDA: destroying what may still run would be worse than leaving it.
  if (contents_) static_cast<void>(contents_.release());
}

// ---- the stream's thread ----

void Recording::begin() {
  device_.setRecording(this);
  perform(kOp, device_, inputs_, {}, [this](Recording*) {
    contents_->memory = device_.graphs()->memory();
    contents_->memory->open();
    adopt(inputs_);
    contents_->inputs = inputs_;
  });
}

void Recording::setFailure(std::shared_ptr<const Error> error) {
  if (!failure_) failure_ = std::move(error);
}

// Outputs that are new belong to the recording. Whatever was there before is kept, as replays will use it.
void Recording::adopt(const std::vector<Tensor>& tensors) {
  for (const Tensor& x : tensors) {
    if (!x) continue;
    const std::shared_ptr<Storage>& storage = x.storage();
    if (!storage->data()) {
      storage->materialize();
      born_[storage.get()] = storage;
    } else if (!born_.count(storage.get())) {
      contents_->kept.emplace(storage.get(), storage);
    }
  }
}

// A replay works on copies of its arguments.
void Recording::checkTargets(const char* op, const std::vector<Tensor>& outputs) const {
  for (const Tensor& output : outputs) {
    for (size_t i = 0; output && i < inputs_.size(); ++i) {
      if (output.storage() != inputs_[i].storage()) continue;
      fail(ErrorCode::Argument, op, "a step that is recorded must not change argument ", i + 1,
           " in place; let it return the new values");
    }
  }
}

void Recording::capture(const char* op, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs) {
  checkTargets(op, outputs);
  adopt(outputs);
  adopt(inputs);
  if (capturing_) return;
  device_.graphs()->begin();
  capturing_ = true;
}

void Recording::closeSegment() {
  if (!capturing_) return;
  capturing_ = false;
  Item item;
  item.segment = device_.graphs()->end();
  contents_->items.push_back(std::move(item));
}

// What was born in the recording is referred to without being kept: its memory may serve others after this op, in the
// recording as in its replays.
Tensor Recording::alias(const Tensor& x) const {
  if (!x || contents_->kept.count(x.storage().get())) return x;
  return {std::make_shared<Storage>(device_, x.storage()->bytes(), x.storage()->data()), x.shape(), x.dtype()};
}

void Recording::defer(const char* op, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                      const Numbers& numbers, NumbersCheck check, VaryingRun run) {
  checkTargets(op, outputs);
  adopt(outputs);
  adopt(inputs);
  closeSegment();
  Item item;
  item.op = op;
  for (const Tensor& x : outputs) item.operands.outputs.push_back(alias(x));
  for (const Tensor& x : inputs) item.operands.inputs.push_back(alias(x));
  item.numbers = numbers.size();
  item.check = std::move(check);
  item.run = std::move(run);
  contents_->items.push_back(std::move(item));
}

void Recording::end(std::vector<Tensor> outputs) {
  if (failure_) return undo();
  perform(kOp, device_, {}, outputs, [&](Recording*) {
    closeSegment();
    adopt(outputs);
    contents_->outputs = std::move(outputs);
  });
  if (failure_) return undo();
  contents_->memory->close();
  device_.setRecording(nullptr);
  const auto early = std::make_shared<const Error>(ErrorCode::Argument, kOp, "the step has been recorded, but not run");
  for (const auto& [address, born] : born_) {
    if (const auto storage = born.lock()) {
      escaped_.push_back(storage);
      storage->setError(early);
    }
  }
  born_.clear();
  inputs_.clear();
}

void Recording::undo() {
  if (capturing_) device_.graphs()->cancel();
  capturing_ = false;
  if (contents_->memory) contents_->memory->close();
  device_.setRecording(nullptr);
  for (const auto& [address, born] : born_) {
    if (const auto storage = born.lock()) storage->setError(failure_);
  }
  born_.clear();
  inputs_.clear();
  release();
}

void Recording::release() {
  if (!contents_) return;
  if (!contents_->items.empty()) device_.graphs()->wait();
  contents_.reset();
}

void Recording::run(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs, const Numbers& numbers) {
  for (const auto& [address, storage] : contents_->kept) {
    if (!storage->error()) continue;
    for (const Tensor& output : outputs) output.storage()->setError(storage->error());
    return;
  }
  perform(kOp, device_, outputs, inputs, [&](Recording*) {
    const auto copy = [&](const Tensor& to, const Tensor& from) {
      if (!to.numel()) return;
      const StridedView view = contiguousView(to.shape());
      device_.backend().copyStrided(to, view, from, view, to.shape());
    };
    // They hold this replay's values from here on, and faults of earlier ones have been told.
    for (const auto& escaped : escaped_) {
      if (const auto storage = escaped.lock()) storage->setError(nullptr);
    }
    for (size_t i = 0; i < inputs.size(); ++i) copy(contents_->inputs[i], inputs[i]);
    size_t at = 0;
    for (const Item& item : contents_->items) {
      if (item.segment) {
        item.segment->launch();
        continue;
      }
      const Numbers own(numbers.begin() + at, numbers.begin() + at + item.numbers);
      at += item.numbers;
      try {
        item.run(device_.backend(), item.operands, own);
      } catch (const DeviceLost&) {
        throw;
      } catch (const Error& error) {
        throw Error(error.code(), kOp, std::string(item.op) + ": " + error.detail());
      }
    }
    for (size_t i = 0; i < outputs.size(); ++i) copy(outputs[i], contents_->outputs[i]);
  });
}

}  // namespace flowmap
