// A Device as JavaScript sees it. Bytes go both ways; what they mean is src/fuse/'s business.
#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>

#include "device.h"

namespace gvfs {

class Channel : public Napi::ObjectWrap<Channel> {
 public:
  static Napi::Function Define(Napi::Env env);

  // new Channel(fd, maxWrite, batch: Buffer of batchBytes, head: Buffer, listener)
  explicit Channel(const Napi::CallbackInfo& info);

 private:
  void Start(const Napi::CallbackInfo& info);
  Napi::Value Send(const Napi::CallbackInfo& info);
  Napi::Value SendParts(const Napi::CallbackInfo& info);
  void SendPartsLater(const Napi::CallbackInfo& info);
  Napi::Value SendFile(const Napi::CallbackInfo& info);
  Napi::Value SendZeros(const Napi::CallbackInfo& info);
  void WriteFile(const Napi::CallbackInfo& info);
  void Notify(const Napi::CallbackInfo& info);
  Napi::Value OpenBacking(const Napi::CallbackInfo& info);
  Napi::Value CloseBacking(const Napi::CallbackInfo& info);
  Napi::Value Stop(const Napi::CallbackInfo& info);

  // The kernel has something to ask; something has completed.
  static void OnReadable(uv_poll_t* poll, int status, int events);
  static void OnWake(napi_env env, napi_value, void* context, void*);
  void Deliver(Napi::Env env);
  Napi::Value TakeTails(Napi::Env env);
  Napi::Value TakeCompletions(Napi::Env env);
  void StopReading();
  void Close();
  static void EnvironmentEnds(void* channel);

  std::shared_ptr<Device> device_;
  napi_threadsafe_function wake_ = nullptr;
  uv_poll_t* poll_ = nullptr;
  Requests requests_;
  std::vector<Completion> completions_;
  Napi::Reference<Napi::Buffer<uint8_t>> batch_;
  Napi::Reference<Napi::Buffer<uint8_t>> head_;
  Napi::FunctionReference listener_;
  uint8_t* batch_bytes_ = nullptr;
  uint8_t* head_bytes_ = nullptr;
};

}  // namespace gvfs
