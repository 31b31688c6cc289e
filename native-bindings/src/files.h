// Files of the cache as JavaScript sees them: work on threads of its own, and what has finished
// comes back in batches. What the bytes mean is src/cache/'s business.
//
// Invariants
//  - Memory that is passed in is JavaScript's: it is kept there until its ticket completes.
//  - The listener is woken once for each batch: again only after that batch was taken.
//  - The event loop is kept alive by what is under way alone.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "work_queue.h"

namespace gvfs {

// What came of a ticket. What the values are depends on the operation.
struct Outcome {
  int error = 0;  // errno, 0 when all went well
  double first = 0;
  double second = 0;
};

// Where threads leave outcomes, and the event loop finds them.
class Outcomes {
 public:
  explicit Outcomes(std::function<void()> wake) : wake_(std::move(wake)) {}

  void Add(double ticket, const Outcome& outcome);

  // In fours: ticket, errno, values.
  std::vector<double> Take();

  // When this has returned, `wake` is not called any more. Outcomes are still kept.
  void Silence();

 private:
  const std::function<void()> wake_;
  std::mutex mutex_;
  std::vector<double> finished_;
  bool woken_ = false;
  bool silent_ = false;
};

class Files : public Napi::ObjectWrap<Files> {
 public:
  static Napi::Function Define(Napi::Env env);

  // new Files(threads, listener)
  explicit Files(const Napi::CallbackInfo& info);

 private:
  void Store(const Napi::CallbackInfo& info);
  void Overwrite(const Napi::CallbackInfo& info);
  void Write(const Napi::CallbackInfo& info);
  void Read(const Napi::CallbackInfo& info);
  void Sums(const Napi::CallbackInfo& info);
  void Punch(const Napi::CallbackInfo& info);
  void Truncate(const Napi::CallbackInfo& info);
  void Sync(const Napi::CallbackInfo& info);
  void Size(const Napi::CallbackInfo& info);
  Napi::Value Lock(const Napi::CallbackInfo& info);
  Napi::Value Stop(const Napi::CallbackInfo& info);

  // Work on one `file` that is given is done one after the other.
  void Queue(Napi::Env env, double ticket, std::function<Outcome()> work,
             int file = WorkQueue::kNoKey);
  static void OnWake(napi_env env, napi_value, void* context, void*);
  void Deliver(Napi::Env env);
  static void EnvironmentEnds(void* files);

  std::shared_ptr<WorkQueue> queue_;
  std::shared_ptr<Outcomes> outcomes_;
  napi_threadsafe_function wake_ = nullptr;
  size_t under_way_ = 0;
  Napi::FunctionReference listener_;
};

}  // namespace gvfs
