// Page-aligned buffers of one size, reused so that a 1 MiB request costs no page faults.
//
// Taking never waits: when no free buffer is left a new one is made, and only `keep` of them are
// kept when they come back. Safe to use from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace gvfs {

class BufferPool {
 public:
  BufferPool(size_t size, size_t keep) : size_(size), keep_(keep) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  size_t size() const { return size_; }

  // nullptr when the machine has no memory.
  uint8_t* Take();
  void Give(uint8_t* buffer);

 private:
  const size_t size_;
  const size_t keep_;
  std::mutex mutex_;
  std::vector<uint8_t*> free_;
};

}  // namespace gvfs
