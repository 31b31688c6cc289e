#include "channel.h"

#include <string.h>

#include <utility>

namespace gvfs {

namespace {

using Bytes = Napi::Buffer<uint8_t>;

// What the garbage collector or an explicit release gives back.
struct TailOwner {
  std::shared_ptr<BufferPool> pool;
  uint8_t* bytes;
};

// A message in parts: `head`, then what is in the buffers. Each is asked for once, since a lone
// reader waits for it: Napi::Buffer would ask for its place and length by two calls.
std::vector<iovec> PartsOf(const iovec& head, const Napi::Array& buffers) {
  const uint32_t count = buffers.Length();
  std::vector<iovec> parts;
  parts.reserve(count + 1);
  parts.push_back(head);
  for (uint32_t i = 0; i < count; i++) {
    napi_value buffer = nullptr;
    iovec part = {};
    napi_get_element(buffers.Env(), buffers, i, &buffer);
    napi_get_buffer_info(buffers.Env(), buffer, &part.iov_base, &part.iov_len);
    if (part.iov_len > 0) parts.push_back(part);
  }
  return parts;
}

// Joins threads, which may take a moment, off the event loop.
class Stopper : public Napi::AsyncWorker {
 public:
  Stopper(Napi::Env env, std::shared_ptr<Device> device)
      : Napi::AsyncWorker(env, "gvfs:stop"),
        device_(std::move(device)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise Promise() const { return deferred_.Promise(); }
  void Execute() override { clean_ = device_->Stop(); }
  void OnOK() override { deferred_.Resolve(Napi::Boolean::New(Env(), clean_)); }

 private:
  std::shared_ptr<Device> device_;
  Napi::Promise::Deferred deferred_;
  bool clean_ = false;
};

}  // namespace

Napi::Function Channel::Define(Napi::Env env) {
  return DefineClass(env, "Channel",
                     {
                         InstanceMethod<&Channel::Start>("start"),
                         InstanceMethod<&Channel::Send>("send"),
                         InstanceMethod<&Channel::SendParts>("sendParts"),
                         InstanceMethod<&Channel::SendPartsLater>("sendPartsLater"),
                         InstanceMethod<&Channel::SendFile>("sendFile"),
                         InstanceMethod<&Channel::SendZeros>("sendZeros"),
                         InstanceMethod<&Channel::WriteFile>("writeFile"),
                         InstanceMethod<&Channel::Notify>("notify"),
                         InstanceMethod<&Channel::OpenBacking>("openBacking"),
                         InstanceMethod<&Channel::CloseBacking>("closeBacking"),
                         InstanceMethod<&Channel::Stop>("stop"),
                     });
}

Channel::Channel(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Channel>(info) {
  const Napi::Env env = info.Env();
  const Bytes batch = info[2].As<Bytes>();
  const Bytes head = info[3].As<Bytes>();
  batch_ = Napi::Persistent(batch);
  head_ = Napi::Persistent(head);
  batch_bytes_ = batch.Data();
  head_bytes_ = head.Data();
  listener_ = Napi::Persistent(info[4].As<Napi::Function>());
  napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "gvfs:batch"), 0, 1,
                                  nullptr, nullptr, this, &Channel::OnWake, &wake_);
  device_ = std::make_shared<Device>(
      info[0].As<Napi::Number>().Int32Value(),
      static_cast<size_t>(info[1].As<Napi::Number>().Int64Value()),
      [wake = wake_] { napi_call_threadsafe_function(wake, nullptr, napi_tsfn_nonblocking); });
  napi_add_env_cleanup_hook(env, &Channel::EnvironmentEnds, this);
  Ref();  // until stop: the threads call back into this object
}

// start(copyThreads, fileThreads)
void Channel::Start(const Napi::CallbackInfo& info) {
  device_->Start(info[0].As<Napi::Number>().Uint32Value(),
                 info[1].As<Napi::Number>().Uint32Value());
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  poll_ = new uv_poll_t;
  poll_->data = this;
  uv_poll_init(loop, poll_, device_->fd());  // which makes the fd non-blocking
  uv_poll_start(poll_, UV_READABLE, &Channel::OnReadable);
}

// send(n): the first n bytes of `head` are a message.
Napi::Value Channel::Send(const Napi::CallbackInfo& info) {
  const iovec part = {head_bytes_, info[0].As<Napi::Number>().Uint32Value()};
  return Napi::Number::New(info.Env(), device_->Send(&part, 1));
}

// sendParts(n, buffers)
Napi::Value Channel::SendParts(const Napi::CallbackInfo& info) {
  const iovec head = {head_bytes_, info[0].As<Napi::Number>().Uint32Value()};
  const std::vector<iovec> parts = PartsOf(head, info[1].As<Napi::Array>());
  return Napi::Number::New(info.Env(),
                           device_->Send(parts.data(), static_cast<int>(parts.size())));
}

// sendPartsLater(n, buffers, ticket)
void Channel::SendPartsLater(const Napi::CallbackInfo& info) {
  const iovec head = {head_bytes_, info[0].As<Napi::Number>().Uint32Value()};
  device_->SendLater(info[2].As<Napi::Number>().DoubleValue(),
                     PartsOf(head, info[1].As<Napi::Array>()));
}

// sendFile(fd, offset, length, ticket): the header is in `head`.
Napi::Value Channel::SendFile(const Napi::CallbackInfo& info) {
  const int error = device_->SendFile(info[3].As<Napi::Number>().DoubleValue(), head_bytes_,
                                      info[0].As<Napi::Number>().Int32Value(),
                                      info[1].As<Napi::Number>().Int64Value(),
                                      info[2].As<Napi::Number>().Uint32Value());
  return Napi::Number::New(info.Env(), error);
}

// sendZeros(length, ticket): at once with ticket 0. The header is in `head`.
Napi::Value Channel::SendZeros(const Napi::CallbackInfo& info) {
  const uint32_t length = info[0].As<Napi::Number>().Uint32Value();
  const double ticket = info[1].As<Napi::Number>().DoubleValue();
  if (ticket == 0) return Napi::Number::New(info.Env(), device_->SendZeros(head_bytes_, length));
  device_->SendZerosLater(ticket, head_bytes_, length);
  return Napi::Number::New(info.Env(), Device::kLater);
}

// writeFile(bytes, fd, offset, ticket)
void Channel::WriteFile(const Napi::CallbackInfo& info) {
  const Bytes bytes = info[0].As<Bytes>();
  device_->WriteFile(info[3].As<Napi::Number>().DoubleValue(), bytes.Data(), bytes.Length(),
                     info[1].As<Napi::Number>().Int32Value(),
                     info[2].As<Napi::Number>().Int64Value());
}

// notify(message, ticket)
void Channel::Notify(const Napi::CallbackInfo& info) {
  const Bytes message = info[0].As<Bytes>();
  device_->Notify(info[1].As<Napi::Number>().DoubleValue(),
                  std::vector<uint8_t>(message.Data(), message.Data() + message.Length()));
}

// openBacking(fd): an id, or -errno
Napi::Value Channel::OpenBacking(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           device_->OpenBacking(info[0].As<Napi::Number>().Int32Value()));
}

// closeBacking(id)
Napi::Value Channel::CloseBacking(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           device_->CloseBacking(info[0].As<Napi::Number>().Uint32Value()));
}

Napi::Value Channel::Stop(const Napi::CallbackInfo& info) {
  // From here on no batch is delivered: what the threads post until they end is dropped.
  Close();
  auto* stopper = new Stopper(info.Env(), device_);  // deletes itself
  const Napi::Promise promise = stopper->Promise();
  stopper->Queue();
  return promise;
}

void Channel::Close() {
  if (wake_ == nullptr) return;
  StopReading();
  device_->BeginStop();
  napi_remove_env_cleanup_hook(Env(), &Channel::EnvironmentEnds, this);
  napi_release_threadsafe_function(wake_, napi_tsfn_abort);
  wake_ = nullptr;
  Unref();
}

// process.exit with a mount alive: the threads end before the heap that they report to.
void Channel::EnvironmentEnds(void* channel) {
  auto* self = static_cast<Channel*>(channel);
  self->StopReading();
  self->device_->Stop();
  self->wake_ = nullptr;  // it ends by itself, right after this
}

void Channel::StopReading() {
  if (poll_ == nullptr) return;
  uv_poll_stop(poll_);
  uv_close(reinterpret_cast<uv_handle_t*>(poll_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
  poll_ = nullptr;
}

void Channel::OnReadable(uv_poll_t* poll, int, int) {
  auto* self = static_cast<Channel*>(poll->data);
  const Napi::Env env = self->Env();
  const Napi::HandleScope scope(env);
  self->device_->Read(&self->requests_);
  // The end is told once; from then on the fd would be readable for ever.
  if (self->requests_.end != 0) self->StopReading();
  self->Deliver(env);
}

void Channel::OnWake(napi_env env, napi_value, void* context, void*) {
  if (env == nullptr) return;  // the environment is going
  static_cast<Channel*>(context)->Deliver(Napi::Env(env));
}

void Channel::Deliver(Napi::Env env) {
  if (wake_ == nullptr) return;
  memcpy(batch_bytes_, requests_.records.data(), requests_.records.size());
  const Napi::Value length = Napi::Number::New(env, static_cast<double>(requests_.records.size()));
  const Napi::Value end = Napi::Number::New(env, requests_.end);
  const Napi::Value tails = TakeTails(env);
  requests_.records.clear();
  requests_.end = 0;
  // As the event loop calls into JavaScript: what was put off by the call is done after it.
  listener_.MakeCallback(env.Global(), {length, tails, TakeCompletions(env), end});
  if (env.IsExceptionPending()) {
    napi_fatal_exception(env, env.GetAndClearPendingException().Value());
  }
}

Napi::Value Channel::TakeCompletions(Napi::Env env) {
  device_->Take(&completions_);
  if (completions_.empty()) return env.Undefined();
  Napi::Array list = Napi::Array::New(env, completions_.size() * 2);
  uint32_t at = 0;
  for (const Completion& completion : completions_) {
    list[at++] = Napi::Number::New(env, completion.ticket);
    list[at++] = Napi::Number::New(env, completion.error);
  }
  return list;
}

// The tails as Buffers over their own memory, which comes back to the pool when they are released.
Napi::Value Channel::TakeTails(Napi::Env env) {
  if (requests_.tails.empty()) return env.Undefined();
  Napi::Array list = Napi::Array::New(env, requests_.tails.size());
  for (uint32_t i = 0; i < requests_.tails.size(); i++) {
    const Tail& tail = requests_.tails[i];
    list[i] = Bytes::New(
        env, tail.bytes, tail.length,
        [](Napi::Env, uint8_t*, TailOwner* owner) {
          owner->pool->Give(owner->bytes);
          delete owner;
        },
        new TailOwner{device_->pool(), tail.bytes});
  }
  requests_.tails.clear();
  return list;
}

}  // namespace gvfs
