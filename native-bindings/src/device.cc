#include "device.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace gvfs {

namespace {

// linux/fuse.h: sizes of fuse_in_header, fuse_in_header + fuse_write_in, fuse_out_header.
constexpr size_t kInHeader = 40;
constexpr size_t kWriteHead = 80;
constexpr size_t kOutHeader = 16;
constexpr uint32_t kOpcodeWrite = 16;

// Messages up to this size are copied into the batch: a buffer of 1 MiB is not held for 4 KiB.
constexpr size_t kInlineBytes = 32 << 10;
// Replies from files up to this size are tried on the event loop, if the page cache has them.
constexpr size_t kInlineFileBytes = 64 << 10;
constexpr size_t kZeroBytes = 2 << 20;
constexpr size_t kPooledBuffers = 16;
constexpr std::chrono::seconds kStopLimit(2);
// Requests read in one round: the event loop has answers of the server to look after as well.
constexpr int kRequestsAtOnce = 32;

// One mapping of zeros for the whole process: all its pages are the kernel's zero page.
const void* Zeros() {
  static const void* zeros =
      mmap(nullptr, kZeroBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return zeros;
}

int WriteParts(int fd, const iovec* parts, int count) {
  for (;;) {
    if (writev(fd, parts, count) >= 0) return 0;
    if (errno != EINTR && errno != EAGAIN) return errno;
  }
}

// linux/fuse.h: struct fuse_backing_map, FUSE_DEV_IOC_BACKING_OPEN and _CLOSE.
struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
constexpr unsigned long kBackingOpen = _IOW(229, 1, BackingMap);
constexpr unsigned long kBackingClose = _IOW(229, 2, uint32_t);

}  // namespace

Device::Device(int fd, size_t max_write, std::function<void()> wake)
    : fd_(fd),
      max_write_(max_write),
      wake_(std::move(wake)),
      // One page beyond max_write: room for the longest names and for SETXATTR.
      pool_(std::make_shared<BufferPool>(max_write + 4096, kPooledBuffers)),
      scratch_(new uint8_t[kInlineFileBytes]) {
}

Device::~Device() {
  if (body_ != nullptr) pool_->Give(body_);
  if (fd_ >= 0) close(fd_);
}

void Device::Start(size_t copy_threads, size_t file_threads) {
  copies_ = std::make_unique<WorkQueue>(copy_threads);
  files_ = std::make_unique<WorkQueue>(file_threads);
  notices_ = std::make_unique<WorkQueue>(1);
}

void Device::Take(std::vector<Completion>* out) {
  out->clear();
  std::lock_guard<std::mutex> lock(mutex_);
  std::swap(*out, completions_);
  woken_ = false;
}

int Device::Send(const iovec* parts, int count) { return WriteParts(fd_, parts, count); }

void Device::SendLater(double ticket, std::vector<iovec> parts) {
  const auto* bytes = static_cast<const uint8_t*>(parts[0].iov_base);
  copies_->Add([self = shared_from_this(), ticket,
                head = std::vector<uint8_t>(bytes, bytes + parts[0].iov_len),
                parts = std::move(parts)]() mutable {
    parts[0].iov_base = head.data();
    self->Complete(ticket, WriteParts(self->fd_, parts.data(), static_cast<int>(parts.size())));
  });
}

int Device::SendFile(double ticket, const uint8_t* head, int fd, off_t offset, size_t length) {
  size_t have = 0;
  if (length <= kInlineFileBytes) {
    const iovec part = {scratch_.get(), length};
    const ssize_t got = preadv2(fd, &part, 1, offset, RWF_NOWAIT);
    // Short is not the end of the file: the rest is just not in the page cache.
    have = got > 0 ? static_cast<size_t>(got) : 0;
    if (have == length) return SendFileBody(head, fd, offset, length, have, scratch_.get());
  }
  files_->Add([self = shared_from_this(), ticket,
               head = std::vector<uint8_t>(head, head + kOutHeader), fd, offset, length] {
    uint8_t* buffer = length <= self->pool_->size() ? self->pool_->Take() : nullptr;
    self->Complete(ticket, self->SendFileBody(head.data(), fd, offset, length, 0, buffer));
    if (buffer != nullptr) self->pool_->Give(buffer);
  });
  return kLater;
}

// Reads on from `have` and replies.
int Device::SendFileBody(const uint8_t* head, int fd, off_t offset, size_t length, size_t have,
                         uint8_t* buffer) {
  if (buffer == nullptr) return -ENOMEM;
  while (have < length) {
    const ssize_t got =
        pread(fd, buffer + have, length - have, offset + static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) return -EIO;
    have += static_cast<size_t>(got);
  }
  const iovec parts[2] = {{const_cast<uint8_t*>(head), kOutHeader}, {buffer, length}};
  return WriteParts(fd_, parts, length == 0 ? 1 : 2);
}

int Device::SendZeros(const uint8_t* head, size_t length) {
  if (length > kZeroBytes) return EINVAL;
  const iovec parts[2] = {{const_cast<uint8_t*>(head), kOutHeader},
                          {const_cast<void*>(Zeros()), length}};
  return WriteParts(fd_, parts, length == 0 ? 1 : 2);
}

void Device::SendZerosLater(double ticket, const uint8_t* head, size_t length) {
  copies_->Add([self = shared_from_this(), ticket,
                head = std::vector<uint8_t>(head, head + kOutHeader), length] {
    self->Complete(ticket, self->SendZeros(head.data(), length));
  });
}

void Device::WriteFile(double ticket, const uint8_t* bytes, size_t length, int fd, off_t offset) {
  files_->Add([self = shared_from_this(), ticket, bytes, length, fd, offset] {
    size_t done = 0;
    int error = 0;
    while (done < length && error == 0) {
      const ssize_t put =
          pwrite(fd, bytes + done, length - done, offset + static_cast<off_t>(done));
      if (put > 0) done += static_cast<size_t>(put);
      else if (put == 0) error = EIO;
      else if (errno != EINTR) error = errno;
    }
    self->Complete(ticket, error);
  });
}

void Device::Notify(double ticket, std::vector<uint8_t> message) {
  notices_->Add([self = shared_from_this(), ticket, message = std::move(message)]() mutable {
    const iovec part = {message.data(), message.size()};
    self->Complete(ticket, WriteParts(self->fd_, &part, 1));
  });
}

int Device::OpenBacking(int fd) {
  const BackingMap map = {fd, 0, 0};
  const int id = ioctl(fd_, kBackingOpen, &map);
  return id < 0 ? -errno : id;
}

int Device::CloseBacking(uint32_t id) { return ioctl(fd_, kBackingClose, &id) < 0 ? errno : 0; }

void Device::BeginStop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stopping_ = true;
}

bool Device::Stop() {
  BeginStop();
  bool clean = true;
  if (copies_ != nullptr) {
    const auto deadline = std::chrono::steady_clock::now() + kStopLimit;
    const auto left = [&] {
      return std::max(std::chrono::milliseconds(0),
                      std::chrono::duration_cast<std::chrono::milliseconds>(
                          deadline - std::chrono::steady_clock::now()));
    };
    clean = copies_->Stop(left());
    clean = files_->Stop(left()) && clean;
    clean = notices_->Stop(left()) && clean;
  }
  const int fd = fd_.exchange(-1);
  if (fd >= 0) close(fd);
  return clean;
}

void Device::Read(Requests* out) {
  out->records.clear();
  out->tails.clear();
  out->end = 0;
  uint8_t head[kWriteHead];
  for (int i = 0; i < kRequestsAtOnce; i++) {
    if (body_ == nullptr) body_ = pool_->Take();
    if (body_ == nullptr) return;  // no memory: the loop comes round and tries again
    // Split so that the payload of a WRITE begins on a page. Add may need the slack at the end.
    const iovec parts[2] = {{head, kWriteHead}, {body_, pool_->size() - kWriteHead}};
    const ssize_t length = readv(fd_, parts, 2);
    if (length < 0) {
      // ENOENT: the request was withdrawn while we took it.
      if (errno == EINTR || errno == ENOENT) continue;
      if (errno != EAGAIN) out->end = errno;
      return;
    }
    const size_t head_length = std::min(static_cast<size_t>(length), kWriteHead);
    Add(out, head, head_length, static_cast<size_t>(length) - head_length);
  }
}

// Adds the message in `head` and `body_`. The body is set to nullptr when it became a tail.
void Device::Add(Requests* out, const uint8_t* head, size_t head_length, size_t body_length) {
  uint32_t opcode = 0;
  if (head_length >= 8) memcpy(&opcode, head + 4, sizeof opcode);
  const bool large = head_length + body_length > kInlineBytes;
  // A large WRITE keeps its arguments in line; of any other large message only the header is.
  const bool in_place = large && opcode == kOpcodeWrite;
  if (large && !in_place) {
    memmove(body_ + (head_length - kInHeader), body_, body_length);
    memcpy(body_, head + kInHeader, head_length - kInHeader);
    body_length += head_length - kInHeader;
    head_length = kInHeader;
  }
  const size_t inline_length = head_length + (large ? 0 : body_length);
  std::vector<uint8_t>& records = out->records;
  const RecordHead record = {static_cast<uint32_t>(inline_length), large ? 1u : 0u};
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&record);
  records.insert(records.end(), bytes, bytes + sizeof record);
  records.insert(records.end(), head, head + head_length);
  if (!large) records.insert(records.end(), body_, body_ + body_length);
  records.resize((records.size() + 7) / 8 * 8);
  if (!large) return;
  out->tails.push_back({body_, body_length});
  body_ = nullptr;
}

// Ticket 0 asks for no completion unless it failed.
void Device::Complete(double ticket, int error) {
  if (ticket == 0 && error == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return;
  completions_.push_back({ticket, error});
  if (woken_) return;
  woken_ = true;
  // Under the lock: BeginStop returns only when no call is under way.
  wake_();
}

static_assert(Device::kBatchBytes >= kRequestsAtOnce * (kInlineBytes + sizeof(RecordHead) + 8),
              "one round of requests fits into a batch");

}  // namespace gvfs
