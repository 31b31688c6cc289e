#include "buffer_pool.h"

#include <cstdlib>

namespace gvfs {

namespace {
constexpr size_t kPage = 4096;
}

BufferPool::~BufferPool() {
  for (uint8_t* buffer : free_) std::free(buffer);
}

uint8_t* BufferPool::Take() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!free_.empty()) {
      uint8_t* buffer = free_.back();
      free_.pop_back();
      return buffer;
    }
  }
  return static_cast<uint8_t*>(std::aligned_alloc(kPage, (size_ + kPage - 1) / kPage * kPage));
}

void BufferPool::Give(uint8_t* buffer) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.size() < keep_) {
      free_.push_back(buffer);
      return;
    }
  }
  std::free(buffer);
}

}  // namespace gvfs
