// gvfs_native: moves bytes between the kernel, files and JavaScript. It holds no meaning: what a
// message says, and what is to be answered, is decided in src/fuse/ and above; what bytes of files
// mean, in src/cache/.
//
// JavaScript checks every argument before it calls; nothing is checked again here.

#include <napi.h>

#include "channel.h"
#include "files.h"
#include "mount.h"

namespace gvfs {
namespace {

// release(arrayBuffer): the view is dead from here on, and its memory goes back to the pool.
void Release(const Napi::CallbackInfo& info) { info[0].As<Napi::ArrayBuffer>().Detach(); }

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports["Channel"] = Channel::Define(env);
  exports["Files"] = Files::Define(env);
  exports["release"] = Napi::Function::New<Release>(env, "release");
  exports["batchBytes"] = Napi::Number::New(env, static_cast<double>(Device::kBatchBytes));
  DefineMount(env, exports);
  return exports;
}

NODE_API_MODULE(gvfs_native, Init)

}  // namespace
}  // namespace gvfs
