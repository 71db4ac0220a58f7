// A step of a program, recorded once and replayed: a list of items in order. On a device with graphs each is either a
// segment of device work that is launched as one, or an op that is run anew because its numbers change from step to
// step. On a device without, each is an op that is run anew, in memory that was planned for all of them together.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/backend.h"
#include "core/graphs.h"
#include "core/storage_list.h"
#include "core/transfer.h"

namespace flowmap {

// All that an op touches.
struct Touched {
  StorageList outputs, inputs;
};
// The tensors of an op whose numbers vary: it is run again with those of the recording in place of those of the call.
struct Operands {
  std::vector<Tensor> outputs, inputs;
};
using Numbers = std::vector<double>;
using RecordedRun = std::function<void(Backend&)>;
using VaryingRun = std::function<void(Backend&, const Operands&, const Numbers&)>;
using ReplayedRun = std::function<void(Backend&, const Numbers&)>;
using NumbersCheck = std::function<void(const Numbers&)>;  // throws Error

class Recording : public std::enable_shared_from_this<Recording> {
 public:
  using Abandon = std::function<bool()>;  // asked now and then while waiting

  // ---- JavaScript's threads ----

  // The calling thread's, while it records; else null.
  static Recording* ofThread();
  // Throws Error(Argument) while the calling thread records, which then fails: the error may go into a promise that
  // nobody looks at.
  static void refuse(const char* op, const char* why);

  // From now on all ops of this thread are recorded and those of other threads on the device wait. `inputs` of the
  // recording are tensors of its own like `examples`. Null where waiting for another recording was abandoned.
  static std::shared_ptr<Recording> start(Device& device, const std::vector<Tensor>& examples, const Abandon& abandon);
  // Ends it; throws what went wrong, with nothing left behind. False where waiting was abandoned. `held` are the
  // tensors that somebody refers to besides the recording's own ops, `outputs` and more.
  bool finish(std::vector<Tensor> outputs, std::vector<Tensor> held, const Abandon& abandon);
  // Ends it and undoes everything.
  void abandon();

  // One replay. `numbers` are those of all varying ops, in order.
  std::vector<Tensor> replay(const std::vector<Tensor>& inputs, const Numbers& numbers);
  // After this it is of no use. What it holds is released when the stream comes to it.
  void dispose();

  const std::vector<Tensor>& inputs() const { return inputs_; }
  Device& device() const { return device_; }

  // ---- the stream's thread, for core/launch.cc ----

  // Why it is of no use any more; null while it is.
  const std::shared_ptr<const Error>& failure() const { return failure_; }
  void setFailure(std::shared_ptr<const Error> error);
  // Keeps what was there before the recording, and records what `run` puts on the stream, or `run` itself.
  void capture(const char* op, const Touched& touched, RecordedRun run);
  // Adds an item to be run in each replay with numbers of its own.
  void defer(const char* op, const Operands& operands, const Numbers& numbers, NumbersCheck check, VaryingRun run);

  explicit Recording(Device& device) : device_(device) {}
  ~Recording();

 private:
  struct Item {
    std::unique_ptr<GraphSegment> segment;  // or else:
    const char* op = nullptr;
    Touched touched;       // without graphs
    bool inPlace = false;  // into memory that held values before the op
    size_t numbers = 0;
    NumbersCheck check;
    ReplayedRun run;
  };
  // What goes when it is disposed of; left to the system where no stream runs any more to do it.
  struct Contents {
    std::unique_ptr<GraphMemory> memory;  // first: ends last
    std::shared_ptr<Storage> planned;     // without graphs: what the tensors of the recording lie in
    std::vector<Item> items;
    std::vector<Tensor> inputs, outputs;
    std::unordered_map<const Storage*, std::shared_ptr<Storage>> kept;  // from before, read or written
    std::vector<std::shared_ptr<Storage>> made;                         // without graphs: all that were made
  };

  void begin();
  void end(std::vector<Tensor> outputs, const std::vector<Tensor>& held);
  void closeSegment();
  void place(const std::vector<Tensor>& held);
  void undo();
  void release();
  void checkTargets(const char* op, const StorageList& outputs) const;  // throws
  void adopt(const StorageList& storages);
  void append(const char* op, const Touched& touched, bool inPlace, size_t numbers, NumbersCheck check,
              ReplayedRun run);
  Tensor alias(const Tensor& x) const;
  bool isInPlace(const StorageList& outputs) const;
  void copy(const Tensor& to, const Tensor& from);
  void run(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs, const Numbers& numbers);
  void runGraphs(const Numbers& numbers);
  void runOps(const Numbers& numbers);
  void leaveThread();

  Device& device_;
  std::vector<Tensor> inputs_;
  std::shared_ptr<const Error> refused_;  // on the thread that records
  std::unique_ptr<Contents> contents_ = std::make_unique<Contents>();
  // Made while recording, whether they still exist or not.
  std::unordered_map<const Storage*, std::weak_ptr<Storage>> born_;
  std::vector<std::weak_ptr<Storage>> escaped_;  // with graphs: those of them that outlived it
  std::shared_ptr<const Error> failure_;
  bool capturing_ = false;
};

}  // namespace flowmap
