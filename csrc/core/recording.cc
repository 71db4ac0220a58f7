#include "core/recording.h"

#include <sstream>
#include <utility>

#include "core/check.h"
#include "core/launch.h"
#include "core/memory_plan.h"

namespace flowmap {
namespace {

constexpr char kOp[] = "captureGraph";
constexpr size_t kAlignment = 64;  // of planned memory, in bytes

thread_local Recording* ofThisThread = nullptr;

}  // namespace

// ---- JavaScript's threads ----

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

bool Recording::finish(std::vector<Tensor> outputs, std::vector<Tensor> held, const Abandon& abandon) {
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
    device_.stream().enqueue(
        makeJob([self = shared_from_this(), outputs = std::move(outputs), held = std::move(held), ended]() noexcept {
          self->end(outputs, held);
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
    self->end({}, {});
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
    if (Graphs* graphs = device_.graphs()) {
      contents_->memory = graphs->memory();
      contents_->memory->open();
    }
    adopt(inputs_);
    contents_->inputs = inputs_;
  });
}

void Recording::setFailure(std::shared_ptr<const Error> error) {
  if (!failure_) failure_ = std::move(error);
}

// Outputs that are new belong to the recording; without graphs nothing runs before all of them are known, and they get
// memory then. Whatever was there before is kept, as replays will use it.
void Recording::adopt(const StorageList& storages) {
  for (const std::shared_ptr<Storage>& storage : storages) {
    if (!storage->data()) {
      if (device_.graphs()) {
        storage->materialize();
      } else if (!born_.count(storage.get())) {
        contents_->made.push_back(storage);
      }
      born_[storage.get()] = storage;
    } else if (!born_.count(storage.get())) {
      contents_->kept.emplace(storage.get(), storage);
    }
  }
}

// A replay works on copies of its arguments.
void Recording::checkTargets(const char* op, const StorageList& outputs) const {
  for (const std::shared_ptr<Storage>& output : outputs) {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (output != inputs_[i].storage()) continue;
      fail(ErrorCode::Argument, op, "a step that is recorded must not change argument ", i + 1,
           " in place; let it return the new values");
    }
  }
}

bool Recording::isInPlace(const StorageList& outputs) const {
  return !outputs.empty() && (outputs.front()->data() || born_.count(outputs.front().get()));
}

void Recording::capture(const char* op, const Touched& touched, RecordedRun run) {
  checkTargets(op, touched.outputs);
  const bool inPlace = isInPlace(touched.outputs);
  adopt(touched.outputs);
  adopt(touched.inputs);
  if (!device_.graphs()) {
    return append(op, touched, inPlace, 0, nullptr,
                  [run = std::move(run)](Backend& backend, const Numbers&) { run(backend); });
  }
  if (!capturing_) {
    device_.graphs()->begin();
    capturing_ = true;
  }
  run(device_.backend());
}

void Recording::closeSegment() {
  if (!capturing_) return;
  capturing_ = false;
  Item item;
  item.segment = device_.graphs()->end();
  contents_->items.push_back(std::move(item));
}

// What was born in the recording is referred to without being kept: its memory may serve others after this op, in the
// recording as in its replays. Planned memory does so anyway.
Tensor Recording::alias(const Tensor& x) const {
  if (!x || !device_.graphs() || contents_->kept.count(x.storage().get())) return x;
  return {std::make_shared<Storage>(device_, x.storage()->bytes(), x.storage()->data()), x.shape(), x.dtype()};
}

void Recording::defer(const char* op, const Operands& operands, const Numbers& numbers, NumbersCheck check,
                      VaryingRun run) {
  const Touched touched{operands.outputs, operands.inputs};
  checkTargets(op, touched.outputs);
  const bool inPlace = isInPlace(touched.outputs);
  adopt(touched.outputs);
  adopt(touched.inputs);
  closeSegment();
  Operands own;
  for (const Tensor& x : operands.outputs) own.outputs.push_back(alias(x));
  for (const Tensor& x : operands.inputs) own.inputs.push_back(alias(x));
  append(op, device_.graphs() ? Touched() : touched, inPlace, numbers.size(), std::move(check),
         [own = std::move(own), run = std::move(run)](Backend& backend, const Numbers& values) {
           run(backend, own, values);
         });
}

void Recording::append(const char* op, const Touched& touched, bool inPlace, size_t numbers, NumbersCheck check,
                       ReplayedRun run) {
  Item item;
  item.op = op;
  item.touched = touched;
  item.inPlace = inPlace;
  item.numbers = numbers;
  item.check = std::move(check);
  item.run = std::move(run);
  contents_->items.push_back(std::move(item));
}

// Gives memory to what was made: by the ops that use it, but to what somebody refers to from outside memory of its own,
// which outlives the recording and holds its values from replay to replay.
void Recording::place(const std::vector<Tensor>& held) {
  std::unordered_map<const Storage*, Lifetime> lifetimes;
  for (size_t at = 0; at < contents_->items.size(); ++at) {
    const Touched& touched = contents_->items[at].touched;
    for (const StorageList* list : {&touched.outputs, &touched.inputs}) {
      for (const std::shared_ptr<Storage>& storage : *list) {
        const auto [found, isNew] = lifetimes.try_emplace(storage.get(), Lifetime{storage->bytes(), at, at});
        found->second.last = at;
      }
    }
  }
  for (const Tensor& x : held) lifetimes.erase(x.storage().get());
  std::vector<Storage*> planned;
  std::vector<Lifetime> blocks;
  for (const std::shared_ptr<Storage>& storage : contents_->made) {
    const auto found = lifetimes.find(storage.get());
    if (found == lifetimes.end()) {
      storage->materialize();
      continue;
    }
    planned.push_back(storage.get());
    blocks.push_back(found->second);
  }
  const MemoryPlan plan = planMemory(blocks, kAlignment);
  contents_->planned = std::make_shared<Storage>(device_, plan.bytes);
  contents_->planned->materialize();
  auto* const memory = static_cast<std::byte*>(contents_->planned->data());
  for (size_t i = 0; i < planned.size(); ++i) planned[i]->place(memory + plan.offsets[i]);
}

void Recording::end(std::vector<Tensor> outputs, const std::vector<Tensor>& held) {
  if (failure_) return undo();
  perform(kOp, device_, {}, outputs, [&](Recording*) {
    closeSegment();
    adopt(outputs);
    contents_->outputs = std::move(outputs);
    if (!device_.graphs()) place(held);
  });
  if (failure_) return undo();
  if (contents_->memory) contents_->memory->close();
  device_.setRecording(nullptr);
  const auto early = std::make_shared<const Error>(ErrorCode::Argument, kOp, "the step has been recorded, but not run");
  for (const auto& [address, born] : born_) {
    if (const auto storage = born.lock()) {
      if (device_.graphs()) escaped_.push_back(storage);
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
  if (device_.graphs() && !contents_->items.empty()) device_.graphs()->wait();
  contents_.reset();
}

void Recording::copy(const Tensor& to, const Tensor& from) {
  if (!to.numel()) return;
  const StridedView view = contiguousView(to.shape());
  device_.backend().copyStrided(to, view, from, view, to.shape());
}

void Recording::run(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs, const Numbers& numbers) {
  if (device_.graphs()) {
    for (const auto& [address, storage] : contents_->kept) {
      if (!storage->error()) continue;
      for (const Tensor& output : outputs) output.storage()->setError(storage->error());
      return;
    }
  }
  perform(kOp, device_, outputs, inputs, [&](Recording*) {
    // They hold this replay's values from here on, and faults of earlier ones have been told.
    for (const auto& escaped : escaped_) {
      if (const auto storage = escaped.lock()) storage->setError(nullptr);
    }
    for (const std::shared_ptr<Storage>& storage : contents_->made) storage->setError(nullptr);
    for (size_t i = 0; i < inputs.size(); ++i) copy(contents_->inputs[i], inputs[i]);
    device_.graphs() ? runGraphs(numbers) : runOps(numbers);
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Tensor& from = contents_->outputs[i];
      from.storage()->error() ? outputs[i].storage()->setError(from.storage()->error()) : copy(outputs[i], from);
    }
  });
}

// As a whole: what goes wrong on the device shows later.
void Recording::runGraphs(const Numbers& numbers) {
  auto next = numbers.begin();
  for (const Item& item : contents_->items) {
    if (item.segment) {
      item.segment->launch();
      continue;
    }
    const Numbers own(next, next + item.numbers);
    next += item.numbers;
    try {
      item.run(device_.backend(), own);
    } catch (const DeviceLost&) {
      throw;
    } catch (const Error& error) {
      throw Error(error.code(), kOp, std::string(item.op) + ": " + error.detail());
    }
  }
}

// As if each op had been called: what goes wrong in one reaches those that take its results, and no others.
void Recording::runOps(const Numbers& numbers) {
  auto next = numbers.begin();
  for (const Item& item : contents_->items) {
    if (device_.stream().stopping()) fail(ErrorCode::Device, kOp, device_, " was stopped in the middle of a replay");
    const Numbers own(next, next + item.numbers);
    next += item.numbers;
    repeat(item.op, device_, item.touched, item.inPlace, item.run, own);
  }
}

}  // namespace flowmap
