#include "files.h"

#include <errno.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "block_file.h"

namespace gvfs {

namespace {

using Bytes = Napi::Buffer<uint8_t>;

// A disk that hangs is left alone after this: by stop, and when the process ends anyway.
constexpr std::chrono::seconds kStopLimit(10);
constexpr std::chrono::seconds kEndLimit(2);
constexpr double kStatBlockBytes = 512;  // stat(2): the unit of st_blocks

int ErrorOf(const std::function<int()>& call) {
  for (;;) {
    if (call() == 0) return 0;
    if (errno != EINTR) return errno;
  }
}

Napi::Array ListOf(Napi::Env env, const std::vector<double>& values) {
  Napi::Array list = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); i++) list[i] = Napi::Number::New(env, values[i]);
  return list;
}

// Joins threads, which may take a moment, off the event loop.
class Stopper : public Napi::AsyncWorker {
 public:
  Stopper(Napi::Env env, std::shared_ptr<WorkQueue> queue, std::shared_ptr<Outcomes> outcomes)
      : Napi::AsyncWorker(env, "gvfs:stop"),
        queue_(std::move(queue)),
        outcomes_(std::move(outcomes)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise Promise() const { return deferred_.Promise(); }
  void Execute() override { clean_ = queue_->Stop(kStopLimit); }
  void OnOK() override {
    Napi::Array result = Napi::Array::New(Env(), 2);
    result[0u] = Napi::Boolean::New(Env(), clean_);
    result[1u] = ListOf(Env(), outcomes_->Take());
    deferred_.Resolve(result);
  }

 private:
  std::shared_ptr<WorkQueue> queue_;
  std::shared_ptr<Outcomes> outcomes_;
  Napi::Promise::Deferred deferred_;
  bool clean_ = false;
};

int FdOf(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }
off_t OffsetOf(const Napi::Value& value) { return value.As<Napi::Number>().Int64Value(); }
double TicketOf(const Napi::Value& value) { return value.As<Napi::Number>().DoubleValue(); }

}  // namespace

void Outcomes::Add(double ticket, const Outcome& outcome) {
  std::lock_guard<std::mutex> lock(mutex_);
  finished_.insert(finished_.end(),
                   {ticket, static_cast<double>(outcome.error), outcome.first, outcome.second});
  if (woken_ || silent_) return;
  woken_ = true;
  // Under the lock: Silence returns only when no call is under way.
  wake_();
}

std::vector<double> Outcomes::Take() {
  std::lock_guard<std::mutex> lock(mutex_);
  woken_ = false;
  return std::exchange(finished_, {});
}

void Outcomes::Silence() {
  std::lock_guard<std::mutex> lock(mutex_);
  silent_ = true;
}

Napi::Function Files::Define(Napi::Env env) {
  return DefineClass(env, "Files",
                     {
                         InstanceMethod<&Files::Store>("store"),
                         InstanceMethod<&Files::Overwrite>("overwrite"),
                         InstanceMethod<&Files::Write>("write"),
                         InstanceMethod<&Files::Read>("read"),
                         InstanceMethod<&Files::Sums>("sums"),
                         InstanceMethod<&Files::Punch>("punch"),
                         InstanceMethod<&Files::Truncate>("truncate"),
                         InstanceMethod<&Files::Sync>("sync"),
                         InstanceMethod<&Files::Size>("size"),
                         InstanceMethod<&Files::Lock>("lock"),
                         InstanceMethod<&Files::Stop>("stop"),
                     });
}

Files::Files(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Files>(info) {
  const Napi::Env env = info.Env();
  listener_ = Napi::Persistent(info[1].As<Napi::Function>());
  napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "gvfs:files"), 0, 1,
                                  nullptr, nullptr, this, &Files::OnWake, &wake_);
  napi_unref_threadsafe_function(env, wake_);
  outcomes_ = std::make_shared<Outcomes>(
      [wake = wake_] { napi_call_threadsafe_function(wake, nullptr, napi_tsfn_nonblocking); });
  queue_ = std::make_shared<WorkQueue>(info[0].As<Napi::Number>().Uint32Value());
  napi_add_env_cleanup_hook(env, &Files::EnvironmentEnds, this);
  Ref();  // until stop: the threads call back into this object
}

// store(fd, offset, bytes, punch, sums, ticket)
void Files::Store(const Napi::CallbackInfo& info) {
  const Bytes bytes = info[2].As<Bytes>();
  const int fd = FdOf(info[0]);
  Queue(
      info.Env(), TicketOf(info[5]),
      [fd, offset = OffsetOf(info[1]), bytes = bytes.Data(), length = bytes.Length(),
       punch = info[3].As<Napi::Boolean>().Value(), sums = info[4].As<Napi::Uint32Array>().Data()] {
        return Outcome{StorePages(fd, bytes, length, offset, punch, sums)};
      },
      fd);
}

// overwrite(fd, offset, bytes, blocks, ticket)
void Files::Overwrite(const Napi::CallbackInfo& info) {
  const Bytes bytes = info[2].As<Bytes>();
  const int fd = FdOf(info[0]);
  Queue(
      info.Env(), TicketOf(info[4]),
      [fd, offset = OffsetOf(info[1]), bytes = bytes.Data(), length = bytes.Length(),
       blocks = reinterpret_cast<OverwrittenBlock*>(info[3].As<Napi::Uint32Array>().Data())] {
        return Outcome{OverwritePages(fd, bytes, length, offset, blocks)};
      },
      fd);
}

// write(fd, offset, bytes, ticket)
void Files::Write(const Napi::CallbackInfo& info) {
  const Bytes bytes = info[2].As<Bytes>();
  Queue(info.Env(), TicketOf(info[3]),
        [fd = FdOf(info[0]), offset = OffsetOf(info[1]), bytes = bytes.Data(),
         length = bytes.Length()] { return Outcome{WriteAll(fd, bytes, length, offset)}; });
}

// read(fd, offset, into, ticket): the first value is the count of bytes.
void Files::Read(const Napi::CallbackInfo& info) {
  const Bytes into = info[2].As<Bytes>();
  Queue(info.Env(), TicketOf(info[3]),
        [fd = FdOf(info[0]), offset = OffsetOf(info[1]), into = into.Data(),
         length = into.Length()] {
          size_t got = 0;
          const int error = ReadAll(fd, into, length, offset, &got);
          return Outcome{error, static_cast<double>(got)};
        });
}

// sums(fd, firstBlock, masks, sums, ticket)
void Files::Sums(const Napi::CallbackInfo& info) {
  const Napi::Uint16Array masks = info[2].As<Napi::Uint16Array>();
  Queue(info.Env(), TicketOf(info[4]),
        [fd = FdOf(info[0]), first_block = static_cast<size_t>(OffsetOf(info[1])),
         masks = std::vector<uint16_t>(masks.Data(), masks.Data() + masks.ElementLength()),
         sums = info[3].As<Napi::Uint32Array>().Data()] {
          return Outcome{SumBlocks(fd, first_block, masks.data(), masks.size(), sums)};
        });
}

// punch(fd, offset, length, ticket)
void Files::Punch(const Napi::CallbackInfo& info) {
  Queue(info.Env(), TicketOf(info[3]),
        [fd = FdOf(info[0]), offset = OffsetOf(info[1]), length = OffsetOf(info[2])] {
          return Outcome{PunchHole(fd, offset, length)};
        });
}

// truncate(fd, size, ticket)
void Files::Truncate(const Napi::CallbackInfo& info) {
  Queue(info.Env(), TicketOf(info[2]), [fd = FdOf(info[0]), size = OffsetOf(info[1])] {
    return Outcome{ErrorOf([&] { return ftruncate(fd, size); })};
  });
}

// sync(fd, ticket)
void Files::Sync(const Napi::CallbackInfo& info) {
  Queue(info.Env(), TicketOf(info[1]),
        [fd = FdOf(info[0])] { return Outcome{ErrorOf([&] { return fdatasync(fd); })}; });
}

// size(fd, ticket): the values are the bytes that are allocated, and the file's size.
void Files::Size(const Napi::CallbackInfo& info) {
  Queue(info.Env(), TicketOf(info[1]), [fd = FdOf(info[0])] {
    struct stat about = {};
    const int error = ErrorOf([&] { return fstat(fd, &about); });
    return Outcome{error, static_cast<double>(about.st_blocks) * kStatBlockBytes,
                   static_cast<double>(about.st_size)};
  });
}

// lock(fd): errno
Napi::Value Files::Lock(const Napi::CallbackInfo& info) {
  const int error = ErrorOf([&] { return flock(FdOf(info[0]), LOCK_EX | LOCK_NB); });
  return Napi::Number::New(info.Env(), error);
}

// stop(): Promise of two: false when a thread hung and was left behind, with the memory that it
// uses; and the last outcomes.
Napi::Value Files::Stop(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  outcomes_->Silence();
  napi_remove_env_cleanup_hook(env, &Files::EnvironmentEnds, this);
  napi_release_threadsafe_function(wake_, napi_tsfn_abort);
  wake_ = nullptr;
  Unref();
  auto* stopper = new Stopper(env, queue_, outcomes_);  // deletes itself
  const Napi::Promise promise = stopper->Promise();
  stopper->Queue();
  return promise;
}

void Files::Queue(Napi::Env env, double ticket, std::function<Outcome()> work, int file) {
  if (under_way_++ == 0) napi_ref_threadsafe_function(env, wake_);
  queue_->Add(
      [outcomes = outcomes_, ticket, work = std::move(work)] { outcomes->Add(ticket, work()); },
      file);
}

void Files::OnWake(napi_env env, napi_value, void* context, void*) {
  if (env == nullptr) return;  // the environment is going
  static_cast<Files*>(context)->Deliver(Napi::Env(env));
}

void Files::Deliver(Napi::Env env) {
  if (wake_ == nullptr) return;
  const std::vector<double> finished = outcomes_->Take();
  under_way_ -= finished.size() / 4;
  if (under_way_ == 0) napi_unref_threadsafe_function(env, wake_);
  // As the event loop calls into JavaScript: what was put off by the call is done after it.
  listener_.MakeCallback(env.Global(), {ListOf(env, finished)});
  if (env.IsExceptionPending()) {
    napi_fatal_exception(env, env.GetAndClearPendingException().Value());
  }
}

// process.exit with work under way: the threads end before the memory that they use.
void Files::EnvironmentEnds(void* files) {
  auto* self = static_cast<Files*>(files);
  self->outcomes_->Silence();
  self->queue_->Stop(kEndLimit);
  self->wake_ = nullptr;  // it ends by itself, right after this
}

}  // namespace gvfs
