#include "block_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

namespace gvfs {

namespace {

// Read at once for sums: large for the disk, and small enough to stay in a core's own cache.
constexpr size_t kPortionPages = 64;

bool IsZero(const uint8_t* page) {
  constexpr size_t kStride = 64;
  for (size_t at = 0; at < kPageBytes; at += kStride) {
    uint64_t words[kStride / sizeof(uint64_t)];
    memcpy(words, page + at, kStride);
    uint64_t bits = 0;
    for (const uint64_t word : words) bits |= word;
    if (bits != 0) return false;
  }
  return true;
}

// Zeros where a file system cannot punch.
int WriteZeros(int fd, off_t offset, size_t length) {
  static constexpr uint8_t kZeros[16 * kPageBytes] = {};
  int error = 0;
  for (size_t done = 0; done < length && error == 0; done += sizeof kZeros) {
    error = WriteAll(fd, kZeros, std::min(sizeof kZeros, length - done),
                     offset + static_cast<off_t>(done));
  }
  return error;
}

// The sum of a block of which only page `in_block` is not zeros.
uint32_t PageSum(const uint8_t* page, size_t in_block) {
  uint32_t sum = Crc32cPage(0, page);
  for (size_t i = in_block + 1; i < kPagesPerBlock; i++) sum = Crc32cZeroPage(sum);
  return sum;
}

uint8_t* Portion() {
  static thread_local std::unique_ptr<uint8_t[]> portion;
  if (portion == nullptr) portion.reset(new uint8_t[kPortionPages * kPageBytes]);
  return portion.get();
}

// Bytes that are put into a file, by the page. Pages are counted from the first block on that the
// bytes touch.
struct Pieces {
  Pieces(const uint8_t* bytes, size_t length, off_t offset)
      : bytes(bytes),
        start(static_cast<size_t>(offset) % (kPagesPerBlock * kPageBytes)),
        end(start + length),
        base(static_cast<size_t>(offset) - start),
        first_page(start / kPageBytes),
        end_page((end + kPageBytes - 1) / kPageBytes) {}

  // Where what is given of a page begins and ends.
  size_t StartOf(size_t page) const { return std::max(page * kPageBytes, start); }
  size_t EndOf(size_t page) const { return std::min((page + 1) * kPageBytes, end); }
  bool IsWhole(size_t page) const { return EndOf(page) - StartOf(page) == kPageBytes; }
  const uint8_t* At(size_t at) const { return bytes + (at - start); }
  off_t Offset(size_t at) const { return static_cast<off_t>(base + at); }

  const uint8_t* const bytes;
  const size_t start;
  const size_t end;
  const size_t base;
  const size_t first_page;
  const size_t end_page;
};

bool HasPage(uint16_t mask, size_t page) { return (mask >> (page % kPagesPerBlock) & 1) != 0; }

// Finds out what has to be done to each page; changes nothing.
int CompareAll(int fd, const Pieces& pieces, OverwrittenBlock* blocks) {
  uint8_t* const portion = Portion();
  size_t read_from = 0;  // the pages that are in the portion
  size_t read_end = 0;
  OverwrittenBlock found = {};
  for (size_t page = pieces.first_page; page < pieces.end_page; page++) {
    const size_t block = page / kPagesPerBlock;
    const uint16_t bit = static_cast<uint16_t>(1u << (page % kPagesPerBlock));
    bool same = false;
    if (HasPage(blocks[block].pages, page)) {
      if (page >= read_end) {
        read_from = page;
        read_end = page + 1;
        while (read_end < pieces.end_page && read_end - read_from < kPortionPages &&
               HasPage(blocks[read_end / kPagesPerBlock].pages, read_end)) {
          read_end++;
        }
        const size_t wanted = (read_end - read_from) * kPageBytes;
        size_t got = 0;
        const int error = ReadAll(fd, portion, wanted, pieces.Offset(page * kPageBytes), &got);
        if (error != 0) return error;
        memset(portion + got, 0, wanted - got);
      }
      const uint8_t* const old = portion + (page - read_from) * kPageBytes;
      const size_t start = pieces.StartOf(page);
      same = memcmp(old + start % kPageBytes, pieces.At(start), pieces.EndOf(page) - start) == 0;
      if (!same) found.old_sum ^= PageSum(old, page % kPagesPerBlock);
    }
    if (!same) {
      found.pages |= bit;
      if (pieces.IsWhole(page) && IsZero(pieces.At(page * kPageBytes))) found.zeros |= bit;
    }
    if (page + 1 == pieces.end_page || (page + 1) % kPagesPerBlock == 0) {
      blocks[block] = found;
      found = {};
    }
  }
  return 0;
}

int PutRun(int fd, const Pieces& pieces, size_t from, size_t end, bool zeros) {
  const size_t start = pieces.StartOf(from);
  const size_t length = pieces.EndOf(end - 1) - start;
  if (!zeros) return WriteAll(fd, pieces.At(start), length, pieces.Offset(start));
  const int error = PunchHole(fd, pieces.Offset(start), static_cast<off_t>(length));
  return error == EOPNOTSUPP ? WriteZeros(fd, pieces.Offset(start), length) : error;
}

}  // namespace

int StorePages(int fd, const uint8_t* bytes, size_t length, off_t offset, bool punch,
               uint32_t* sums) {
  const size_t pages = (length + kPageBytes - 1) / kPageBytes;
  const size_t rest = length % kPageBytes;
  uint8_t last[kPageBytes];  // the page that is not whole, as zeros complete it
  if (rest != 0) {
    memcpy(last, bytes + length - rest, rest);
    memset(last + rest, 0, kPageBytes - rest);
  }
  size_t in_block = static_cast<size_t>(offset) / kPageBytes % kPagesPerBlock;
  size_t run = 0;  // where the run of pages began that are all zeros, or all not
  bool run_zero = false;
  int error = 0;

  const auto end_run = [&](size_t end) {
    const off_t at = offset + static_cast<off_t>(run * kPageBytes);
    const size_t run_length = std::min(end * kPageBytes, length) - run * kPageBytes;
    if (run_length == 0 || (run_zero && !punch)) return 0;
    if (!run_zero) return WriteAll(fd, bytes + run * kPageBytes, run_length, at);
    // Whole pages: part of one would be zeroed, and stay allocated.
    const int punched = PunchHole(fd, at, static_cast<off_t>((end - run) * kPageBytes));
    return punched == EOPNOTSUPP ? WriteZeros(fd, at, run_length) : punched;
  };

  for (size_t i = 0; i < pages && error == 0; i++) {
    const bool whole = rest == 0 || i + 1 < pages;
    const uint8_t* page = whole ? bytes + i * kPageBytes : last;
    const bool zero = IsZero(page);
    if (i > 0 && zero != run_zero) {
      error = end_run(i);
      run = i;
    }
    run_zero = zero;
    *sums = zero ? Crc32cZeroPage(*sums) : Crc32cPage(*sums, page);
    if (++in_block == kPagesPerBlock) {
      in_block = 0;
      sums++;
    }
  }
  if (error == 0 && pages > 0) error = end_run(pages);
  if (error != 0) {
    PunchHole(fd, offset, static_cast<off_t>(pages * kPageBytes));
  } else if (in_block > 0) {
    for (; in_block < kPagesPerBlock; in_block++) *sums = Crc32cZeroPage(*sums);
  }
  return error;
}

int OverwritePages(int fd, const uint8_t* bytes, size_t length, off_t offset,
                   OverwrittenBlock* blocks) {
  if (length == 0) return 0;
  const Pieces pieces(bytes, length, offset);
  const int error = CompareAll(fd, pieces, blocks);
  if (error != 0) {
    std::fill(blocks, blocks + (pieces.end_page + kPagesPerBlock - 1) / kPagesPerBlock,
              OverwrittenBlock{});
    return error;
  }
  for (size_t page = pieces.first_page; page < pieces.end_page;) {
    const OverwrittenBlock& first = blocks[page / kPagesPerBlock];
    if (!HasPage(first.pages, page)) {
      page++;
      continue;
    }
    const bool zeros = HasPage(first.zeros, page);
    size_t end = page + 1;
    for (; end < pieces.end_page; end++) {
      const OverwrittenBlock& block = blocks[end / kPagesPerBlock];
      if (!HasPage(block.pages, end) || HasPage(block.zeros, end) != zeros) break;
    }
    const int failed = PutRun(fd, pieces, page, end, zeros);
    if (failed != 0) return failed;
    page = end;
  }
  return 0;
}

int SumBlocks(int fd, size_t first_block, const uint16_t* masks, size_t count, uint32_t* sums) {
  uint8_t* const portion = Portion();
  const size_t pages = count * kPagesPerBlock;
  const auto present = [&](size_t page) {
    return (masks[page / kPagesPerBlock] >> (page % kPagesPerBlock) & 1) != 0;
  };
  for (size_t page = 0; page < pages;) {
    size_t end = page;
    while (end < pages && end - page < kPortionPages && present(end)) end++;
    if (end == page) {
      uint32_t* const sum = sums + page / kPagesPerBlock;
      *sum = Crc32cZeroPage(*sum);
      page++;
      continue;
    }
    const size_t length = (end - page) * kPageBytes;
    const size_t at = (first_block * kPagesPerBlock + page) * kPageBytes;
    size_t got = 0;
    const int error = ReadAll(fd, portion, length, static_cast<off_t>(at), &got);
    if (error != 0) return error;
    memset(portion + got, 0, length - got);
    for (const uint8_t* bytes = portion; page < end; page++, bytes += kPageBytes) {
      uint32_t* const sum = sums + page / kPagesPerBlock;
      *sum = Crc32cPage(*sum, bytes);
    }
  }
  return 0;
}

int WriteAll(int fd, const uint8_t* bytes, size_t length, off_t offset) {
  size_t done = 0;
  while (done < length) {
    const ssize_t put = pwrite(fd, bytes + done, length - done, offset + static_cast<off_t>(done));
    if (put > 0) done += static_cast<size_t>(put);
    else if (put == 0) return EIO;
    else if (errno != EINTR) return errno;
  }
  return 0;
}

int ReadAll(int fd, uint8_t* into, size_t length, off_t offset, size_t* got) {
  *got = 0;
  while (*got < length) {
    const ssize_t more =
        pread(fd, into + *got, length - *got, offset + static_cast<off_t>(*got));
    if (more > 0) *got += static_cast<size_t>(more);
    else if (more == 0) return 0;
    else if (errno != EINTR) return errno;
  }
  return 0;
}

int PunchHole(int fd, off_t offset, off_t length) {
  for (;;) {
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) == 0) return 0;
    if (errno != EINTR) return errno;
  }
}

}  // namespace gvfs
