// What mounting needs and Node lacks: mount(2), umount2(2), a socket pair, and taking a file
// descriptor out of a socket (SCM_RIGHTS), which is how fusermount3 hands over /dev/fuse.
#pragma once

#include <napi.h>

namespace gvfs {

void DefineMount(Napi::Env env, Napi::Object exports);

}  // namespace gvfs
