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

// The sums of `count` blocks, of the pages in their masks alone; each of `sums` is 0 so far. What
// lies beyond the end of the file counts as zeros.
int SumBlocks(int fd, size_t first_block, const uint16_t* masks, size_t count, uint32_t* sums);

int WriteAll(int fd, const uint8_t* bytes, size_t length, off_t offset);

// `got` is less than `length` only where the file ends.
int ReadAll(int fd, uint8_t* into, size_t length, off_t offset, size_t* got);

// Makes the range a hole; the file keeps its size.
int PunchHole(int fd, off_t offset, off_t length);

}  // namespace gvfs
