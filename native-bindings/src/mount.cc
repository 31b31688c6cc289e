#include "mount.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <functional>
#include <string>
#include <utility>

namespace gvfs {

namespace {

// A system call that may wait (an unmount writes dirty pages through us), off the event loop.
// Resolves to 0 or errno.
class Call : public Napi::AsyncWorker {
 public:
  Call(Napi::Env env, std::function<int()> call)
      : Napi::AsyncWorker(env, "gvfs:mount"),
        call_(std::move(call)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  static Napi::Value Queue(Napi::Env env, std::function<int()> call) {
    auto* worker = new Call(env, std::move(call));  // deletes itself
    const Napi::Promise promise = worker->deferred_.Promise();
    static_cast<Napi::AsyncWorker*>(worker)->Queue();
    return promise;
  }

  void Execute() override { error_ = call_() == 0 ? 0 : errno; }
  void OnOK() override { deferred_.Resolve(Napi::Number::New(Env(), error_)); }

 private:
  std::function<int()> call_;
  Napi::Promise::Deferred deferred_;
  int error_ = 0;
};

// mount(source, target, type, flags, options): Promise of errno
Napi::Value Mount(const Napi::CallbackInfo& info) {
  return Call::Queue(
      info.Env(), [source = info[0].As<Napi::String>().Utf8Value(),
                   target = info[1].As<Napi::String>().Utf8Value(),
                   type = info[2].As<Napi::String>().Utf8Value(),
                   flags = static_cast<unsigned long>(info[3].As<Napi::Number>().Int64Value()),
                   options = info[4].As<Napi::String>().Utf8Value()] {
        return mount(source.c_str(), target.c_str(), type.c_str(), flags, options.c_str());
      });
}

// unmount(target, flags): Promise of errno
Napi::Value Unmount(const Napi::CallbackInfo& info) {
  return Call::Queue(info.Env(), [target = info[0].As<Napi::String>().Utf8Value(),
                                  flags = info[1].As<Napi::Number>().Int32Value()] {
    return umount2(target.c_str(), flags);
  });
}

// socketPair(): [fd, fd], or a negative errno
Napi::Value SocketPair(const Napi::CallbackInfo& info) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    return Napi::Number::New(info.Env(), -errno);
  }
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair[0u] = Napi::Number::New(info.Env(), fds[0]);
  pair[1u] = Napi::Number::New(info.Env(), fds[1]);
  return pair;
}

// receiveFd(socket): the descriptor that lies in it, or a negative errno. Never waits.
Napi::Value ReceiveFd(const Napi::CallbackInfo& info) {
  char byte;
  iovec part = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  int fd = -ENOMSG;
  const ssize_t got =
      recvmsg(info[0].As<Napi::Number>().Int32Value(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) {
    fd = -errno;
  } else {
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
      }
    }
  }
  return Napi::Number::New(info.Env(), fd);
}

}  // namespace

void DefineMount(Napi::Env env, Napi::Object exports) {
  exports["mount"] = Napi::Function::New<Mount>(env, "mount");
  exports["unmount"] = Napi::Function::New<Unmount>(env, "unmount");
  exports["socketPair"] = Napi::Function::New<SocketPair>(env, "socketPair");
  exports["receiveFd"] = Napi::Function::New<ReceiveFd>(env, "receiveFd");
}

}  // namespace gvfs
