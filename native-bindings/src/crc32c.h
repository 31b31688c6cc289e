// The CRC of sums, page by page: CRC-32C (Castagnoli) with neither the initial nor the final
// inversion of RFC 3720. So it is linear: zeros in front change nothing, and the sum of a block is
// the exclusive or of the sums of its pages, each followed by the zeros behind it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gvfs {

constexpr size_t kPageBytes = 4096;

// The register `crc` after the page's 4096 bytes, which need no alignment.
uint32_t Crc32cPage(uint32_t crc, const uint8_t* page);

// The same for a page of zeros, without looking at one.
uint32_t Crc32cZeroPage(uint32_t crc);

}  // namespace gvfs
