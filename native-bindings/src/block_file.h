// A file of the cache, without a word about JavaScript: pages of 4096 bytes, of which those that
// are all zeros are holes, and a sum for each block of 16 pages (crc32c.h).
//
// Every function waits for the disk, carries on after EINTR and after a short read or write, and
// returns errno or 0.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "crc32c.h"

namespace gvfs {

constexpr size_t kPagesPerBlock = 16;

// Writes the bytes of absent pages; all but the last page are whole. Runs of pages that are all
// zeros are skipped when `punch` is false, and otherwise made holes. `sums` has an entry for each
// block that is touched, 0 so far, and becomes the sums of these bytes alone.
//
// After an error the pages may hold any bytes, though as many of them as can be are made holes.
int StorePages(int fd, const uint8_t* bytes, size_t length, off_t offset, bool punch,
               uint32_t* sums);

// What an overwrite is told of a block, and tells. Bit i is page i.
struct OverwrittenBlock {
  // In: the pages to be compared with what is there. Out: the pages that were not left alone.
  uint16_t pages;
  // Out: those that were given whole, and are zeros now.
  uint16_t zeros;
  // Out: the sum of what the compared ones of `pages` held.
  uint32_t old_sum;
};

// Writes over whatever there is; `blocks` has an entry for each block that is touched. A page that
// is compared, and has these bytes, is left alone. Other whole pages that are all zeros become
// holes. Of a page that is given in part only that part is compared and written.
//
// After an error each of the pages that `blocks` tells may be old, new, or some of both; all others
// are as they were. All is read before anything is written.
int OverwritePages(int fd, const uint8_t* bytes, size_t length, off_t offset,
                   OverwrittenBlock* blocks);

// The sums of `count` blocks, of the pages in their masks alone; each of `sums` is 0 so far. What
// lies beyond the end of the file counts as zeros.
int SumBlocks(int fd, size_t first_block, const uint16_t* masks, size_t count, uint32_t* sums);

int WriteAll(int fd, const uint8_t* bytes, size_t length, off_t offset);

// `got` is less than `length` only where the file ends.
int ReadAll(int fd, uint8_t* into, size_t length, off_t offset, size_t* got);

// Makes the range a hole; the file keeps its size.
int PunchHole(int fd, off_t offset, off_t length);

}  // namespace gvfs
