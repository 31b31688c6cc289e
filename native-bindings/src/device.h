// One /dev/fuse connection, without a word about JavaScript: threads that read requests into a
// batch, and the ways a reply takes back.
//
//   kernel --read--> device threads --+--> batch (small requests, copied)  --+
//                                     +--> tails (large payloads, in place)  +--> Inbox --> wake()
//                    io threads ------+--> completions ----------------------+
//
// Invariants
//  D1 A device thread never waits for an answer: when pooled buffers run out it takes new ones.
//     It waits only for room in the batch, that is for the event loop to come round.
//  D2 `wake` is called once for each batch: again only after the batch before it was taken.
//  D3 No thread of ours ever exits the process. The end (ENODEV: unmounted) is posted as an event.
//  D4 After BeginStop nothing calls `wake`; after Stop the fd is closed, which aborts the
//     connection.
#pragma once

#include <pthread.h>
#include <sys/uio.h>

#include <atomic>
#include <condition_variable>
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
  int error;  // errno, 0 when all went well
};

// What has come in since the last time someone looked.
struct Inbox {
  std::vector<uint8_t> records;
  std::vector<Tail> tails;
  std::vector<Completion> completions;
  int end = 0;  // errno that ended the connection; ENODEV: unmounted
};

class Device : public std::enable_shared_from_this<Device> {
 public:
  // `fd` is ours from here on. `max_write` is what INIT will promise.
  Device(int fd, size_t max_write, std::function<void()> wake);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  static constexpr size_t kBatchBytes = 1 << 20;

  void Start(size_t device_threads, size_t io_threads);

  // Moves the inbox into `out`, whose old content is discarded.
  void Take(Inbox* out);

  // Writes one message to the kernel at once; errno or 0.
  int Send(const iovec* parts, int count);

  // The same from an io thread; the parts' memory must live until the ticket completes.
  void SendLater(double ticket, std::vector<uint8_t> head, std::vector<iovec> parts);

  // A reply whose body is a range of a local file: errno or 0 when it was sent at once, or kLater
  // and its ticket completes. A file that ends too early gets an EIO reply, never a short one, and
  // the error is then EIO.
  static constexpr int kLater = -1;
  int SendFile(double ticket, const uint8_t* head, int fd, off_t offset, size_t length);

  // A reply whose body is `length` zeros.
  int SendZeros(const uint8_t* head, size_t length);
  void SendZerosLater(double ticket, const uint8_t* head, size_t length);

  // pwrite of all of `bytes`, which must live until the ticket completes.
  void WriteFile(double ticket, const uint8_t* bytes, size_t length, int fd, off_t offset);

  // A notice, on a thread of its own: it may wait for requests that are still to be answered.
  void Notify(double ticket, std::vector<uint8_t> message);

  // From here on nothing is delivered; at once.
  void BeginStop();

  // Ends the threads and closes the fd. False when one of them hung and was left behind.
  bool Stop();

  const std::shared_ptr<BufferPool>& pool() const { return pool_; }

 private:
  void Read();
  bool Post(const uint8_t* head, size_t head_length, uint8_t** body, size_t body_length);
  void Complete(double ticket, int error);
  void End(int error);
  void Wake(std::unique_lock<std::mutex> lock);
  int SendFileBody(const uint8_t* head, int fd, off_t offset, size_t length, size_t have,
                   uint8_t* buffer);

  std::atomic<int> fd_;
  const size_t max_write_;
  const std::function<void()> wake_;
  const std::shared_ptr<BufferPool> pool_;
  std::unique_ptr<uint8_t[]> scratch_;  // the event loop's own, for small file replies
  std::unique_ptr<WorkQueue> io_;
  std::unique_ptr<WorkQueue> notices_;

  std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable idle_;
  Inbox inbox_;
  bool woken_ = false;
  std::atomic<bool> stopping_ = false;
  std::vector<pthread_t> readers_;  // those still running
};

}  // namespace gvfs
