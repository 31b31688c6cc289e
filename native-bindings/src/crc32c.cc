// The processor's instruction takes 8 bytes in a cycle but gives its result after three, so a page
// is read as three lanes side by side; a lane is put behind the one before it by what as many zeros
// do to a register, which is a table for each of its four bytes.
#include "crc32c.h"

#include <string.h>

#include <array>
#include <bit>
#include <type_traits>

#if defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace gvfs {

namespace {

// x^32 + x^28 + x^27 + ... + 1, lowest power in the highest bit.
constexpr uint32_t kPolynomial = 0x82f63b78;

constexpr size_t kWordBytes = 8;
constexpr size_t kLanes = 3;
constexpr size_t kLaneBytes = kPageBytes / kLanes / kWordBytes * kWordBytes;

// By value of a byte: what it is in the register after itself and `i` zeros.
using ByteTables = std::array<std::array<uint32_t, 256>, kWordBytes>;

constexpr ByteTables MakeByteTables() {
  ByteTables tables = {};
  for (uint32_t value = 0; value < 256; value++) {
    uint32_t crc = value;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][value] = crc;
  }
  for (size_t i = 1; i < kWordBytes; i++) {
    for (uint32_t value = 0; value < 256; value++) {
      const uint32_t crc = tables[i - 1][value];
      tables[i][value] = (crc >> 8) ^ tables[0][crc & 0xff];
    }
  }
  return tables;
}

constexpr ByteTables kBytes = MakeByteTables();

constexpr uint64_t WordAt(const uint8_t* bytes) {
  uint64_t word = 0;
  if (!std::is_constant_evaluated() && std::endian::native == std::endian::little) {
    // Compilers make eight loads of the loop below, which takes ten times as long.
    memcpy(&word, bytes, kWordBytes);
    return word;
  }
  for (size_t i = 0; i < kWordBytes; i++) word |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return word;
}

// For processors without the instruction. `length` is a multiple of 8.
constexpr uint32_t Portable(uint32_t crc, const uint8_t* bytes, size_t length) {
  for (size_t at = 0; at < length; at += kWordBytes) {
    const uint64_t word = WordAt(bytes + at) ^ crc;
    crc = 0;
    for (size_t i = 0; i < kWordBytes; i++) {
      crc ^= kBytes[kWordBytes - 1 - i][(word >> (8 * i)) & 0xff];
    }
  }
  return crc;
}

// RFC 3720, B.4: 32 bytes of zeros, of ones, and counting up.
constexpr bool AgreesWithRfc() {
  std::array<uint8_t, 32> zeros = {}, ones = {}, counting = {};
  for (uint8_t i = 0; i < 32; i++) {
    ones[i] = 0xff;
    counting[i] = i;
  }
  return ~Portable(~0u, zeros.data(), 32) == 0x8a9136aa &&
         ~Portable(~0u, ones.data(), 32) == 0x62a8ab43 &&
         ~Portable(~0u, counting.data(), 32) == 0x46dd794e;
}
static_assert(AgreesWithRfc());

// By value of each byte of a register: what it becomes when `zeros` bytes of zeros follow.
using ShiftTables = std::array<std::array<uint32_t, 256>, 4>;

// a * b modulo the polynomial.
constexpr uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t power = 1u << 31; power != 0; power >>= 1) {
    if ((a & power) != 0) product ^= b;
    b = (b >> 1) ^ ((b & 1) != 0 ? kPolynomial : 0);
  }
  return product;
}

constexpr ShiftTables MakeShiftTables(size_t zeros) {
  uint32_t factor = 1u << 31;        // 1
  uint32_t square = 1u << (31 - 8);  // x^8: one byte
  for (size_t left = zeros; left != 0; left >>= 1) {
    if ((left & 1) != 0) factor = Multiply(factor, square);
    square = Multiply(square, square);
  }
  ShiftTables tables = {};
  for (size_t i = 0; i < 4; i++) {
    // Linear: the value of a byte is the sum of its bits.
    for (uint32_t bit = 1; bit < 256; bit <<= 1) {
      const uint32_t shifted = Multiply(bit << (8 * i), factor);
      for (uint32_t lower = 0; lower < bit; lower++) {
        tables[i][bit | lower] = tables[i][lower] ^ shifted;
      }
    }
  }
  return tables;
}

constexpr ShiftTables kZeroPage = MakeShiftTables(kPageBytes);

constexpr uint32_t Shift(const ShiftTables& tables, uint32_t crc) {
  return tables[0][crc & 0xff] ^ tables[1][(crc >> 8) & 0xff] ^ tables[2][(crc >> 16) & 0xff] ^
         tables[3][crc >> 24];
}

constexpr bool ShiftsAsZerosDo() {
  const std::array<uint8_t, kLaneBytes> zeros = {};
  return Shift(MakeShiftTables(kLaneBytes), 0x12345678) ==
         Portable(0x12345678, zeros.data(), zeros.size());
}
static_assert(ShiftsAsZerosDo());

uint32_t PortablePage(uint32_t crc, const uint8_t* page) {
  return Portable(crc, page, kPageBytes);
}

using PageFunction = uint32_t (*)(uint32_t, const uint8_t*);

#if defined(__x86_64__)

#define GVFS_WITH_CRC __attribute__((target("sse4.2")))
bool HasInstruction() { return __builtin_cpu_supports("sse4.2"); }
GVFS_WITH_CRC inline uint32_t AddWord(uint32_t crc, uint64_t word) {
  return static_cast<uint32_t>(__builtin_ia32_crc32di(crc, word));
}

#elif defined(__aarch64__)

#define GVFS_WITH_CRC __attribute__((target("+crc")))
bool HasInstruction() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
GVFS_WITH_CRC inline uint32_t AddWord(uint32_t crc, uint64_t word) { return __crc32cd(crc, word); }

#endif

#if defined(GVFS_WITH_CRC)

constexpr ShiftTables kLane = MakeShiftTables(kLaneBytes);

GVFS_WITH_CRC uint32_t InstructionPage(uint32_t crc, const uint8_t* page) {
  const uint8_t* const second = page + kLaneBytes;
  const uint8_t* const third = second + kLaneBytes;
  uint32_t second_crc = 0;
  uint32_t third_crc = 0;
  for (size_t at = 0; at < kLaneBytes; at += kWordBytes) {
    crc = AddWord(crc, WordAt(page + at));
    second_crc = AddWord(second_crc, WordAt(second + at));
    third_crc = AddWord(third_crc, WordAt(third + at));
  }
  crc = Shift(kLane, Shift(kLane, crc) ^ second_crc) ^ third_crc;
  for (size_t at = kLanes * kLaneBytes; at < kPageBytes; at += kWordBytes) {
    crc = AddWord(crc, WordAt(page + at));
  }
  return crc;
}

const PageFunction kPage = HasInstruction() ? InstructionPage : PortablePage;

#else

constexpr PageFunction kPage = PortablePage;

#endif

}  // namespace

uint32_t Crc32cPage(uint32_t crc, const uint8_t* page) { return kPage(crc, page); }

uint32_t Crc32cZeroPage(uint32_t crc) { return Shift(kZeroPage, crc); }

}  // namespace gvfs
