// One /dev/fuse connection, without a word about JavaScript: how requests come in, and the ways a
// reply takes back.
//
//   kernel --Read, when the event loop is told that there is something--> records (small requests)
//                                                                     +-> tails (large payloads)
//   copy threads, file threads, notice thread -----------------------> completions --> wake()
//
// The event loop reads by itself. A thread that read for it was measured to cost more than it gave:
// each request paid for one more thread to be woken (a tenth of the requests at depth 1, a fifth at
// depth 16), to save the loop a copy of 1 MiB now and then.
//
// Invariants
//  D1 Read takes a bounded number of requests and never waits: when pooled buffers run out it takes
//     new ones, so that requests which need no memory always get through.
//  D2 `wake` is called once for each batch of completions: again only after that batch was taken.
//  D3 No thread of ours ever exits the process. The end (ENODEV: unmounted) is a value.
//  D4 After BeginStop nothing calls `wake`; after Stop the fd is closed, which aborts the
//     connection.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "buffer_pool.h"
#include "work_queue.h"

namespace gvfs {

// Every record of a batch starts with this, and is padded to 8 bytes. `tail` is 1 when the rest of
// the message is the next of the batch's tails.
struct RecordHead {
  uint32_t inline_length;
  uint32_t tail;
};

struct Tail {
  uint8_t* bytes;
  size_t length;
};

struct Completion {
  double ticket;
  int error;  // errno, 0 when all went well; below 0 of a SendFile whose file failed
};

// What one round of reading brought.
struct Requests {
  std::vector<uint8_t> records;
  std::vector<Tail> tails;
  int end = 0;  // errno that ended the connection; ENODEV: unmounted
};

class Device : public std::enable_shared_from_this<Device> {
 public:
  // `fd` is ours from here on. `max_write` is what INIT will promise.
  Device(int fd, size_t max_write, std::function<void()> wake);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  static constexpr size_t kBatchBytes = 2 << 20;

  // Copies of memory to the kernel and files have threads of their own: a disk that hangs holds up
  // nothing but what is read from it.
  void Start(size_t copy_threads, size_t file_threads);

  int fd() const { return fd_; }

  // Reads what the kernel has to ask, until there is no more for now or it is enough for once.
  // The old content of `out` is discarded.
  void Read(Requests* out);

  // Moves what has completed into `out`, whose old content is discarded.
  void Take(std::vector<Completion>* out);

  // Writes one message to the kernel at once; errno or 0.
  int Send(const iovec* parts, int count);

  // The same from a copy thread. The memory of all parts but the first, which is copied, must live
  // until the ticket completes.
  void SendLater(double ticket, std::vector<iovec> parts);

  // A reply whose body is a range of a local file: how it went, or kLater and its ticket completes.
  // 0: sent. Above 0: the errno with which the kernel refused the reply. Below 0: the file could
  // not be read, or ended too early (-EIO), and the kernel was told nothing: it still waits.
  static constexpr int kLater = 1 << 16;
  int SendFile(double ticket, const uint8_t* head, int fd, off_t offset, size_t length);

  // A reply whose body is `length` zeros.
  int SendZeros(const uint8_t* head, size_t length);
  void SendZerosLater(double ticket, const uint8_t* head, size_t length);

  // pwrite of all of `bytes`, which must live until the ticket completes.
  void WriteFile(double ticket, const uint8_t* bytes, size_t length, int fd, off_t offset);

  // A notice, on a thread of its own: it may wait for requests that are still to be answered.
  void Notify(double ticket, std::vector<uint8_t> message);

  // Makes an open file one that the kernel reads by itself (passthrough): its id, or -errno.
  // Neither waits for anything.
  int OpenBacking(int fd);
  int CloseBacking(uint32_t id);

  // From here on nothing is delivered; at once.
  void BeginStop();

  // Ends the threads and closes the fd. False when one of them hung and was left behind.
  bool Stop();

  const std::shared_ptr<BufferPool>& pool() const { return pool_; }

 private:
  void Add(Requests* out, const uint8_t* head, size_t head_length, size_t body_length);
  void Complete(double ticket, int error);
  int SendFileBody(const uint8_t* head, int fd, off_t offset, size_t length, size_t have,
                   uint8_t* buffer);

  std::atomic<int> fd_;
  const size_t max_write_;
  const std::function<void()> wake_;
  const std::shared_ptr<BufferPool> pool_;
  std::unique_ptr<uint8_t[]> scratch_;  // the event loop's own, for small file replies
  std::unique_ptr<WorkQueue> copies_;
  std::unique_ptr<WorkQueue> files_;
  std::unique_ptr<WorkQueue> notices_;

  uint8_t* body_ = nullptr;  // where the next request goes

  std::mutex mutex_;
  std::vector<Completion> completions_;
  bool woken_ = false;
  bool stopping_ = false;
};

}  // namespace gvfs
