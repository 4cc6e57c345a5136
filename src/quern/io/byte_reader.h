// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace quern {

/// Little-endian reading of outside bytes, front to back. Every read is checked against what is left, nothing
/// overflows, and a read that fails takes nothing. Borrows the bytes; what it returns points into them.
class ByteReader {
 public:
  static_assert(std::endian::native == std::endian::little, "files are little-endian and read in place");

  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  /// One number; unaligned. Not bool: a byte of 2 would be no bool at all.
  template <typename T>
    requires(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>)
  std::optional<T> read() {
    if (left() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::optional<std::span<const std::byte>> take(uint64_t n) {
    if (n > left()) return std::nullopt;
    const auto piece = bytes_.subspan(position_, n);
    position_ += n;
    return piece;
  }

  /// `count` items of `item_bytes` each (at least 1).
  std::optional<std::span<const std::byte>> take(uint64_t count, uint64_t item_bytes) {
    if (count > left() / item_bytes) return std::nullopt;
    return take(count * item_bytes);
  }

  /// A string behind its length in 64 bits.
  std::optional<std::string_view> read_string() {
    ByteReader ahead = *this;
    const auto n = ahead.read<uint64_t>();
    if (!n) return std::nullopt;
    const auto piece = ahead.take(*n);
    if (!piece) return std::nullopt;
    *this = ahead;
    return std::string_view(reinterpret_cast<const char*>(piece->data()), piece->size());
  }

 private:
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

/// a * b, or nothing where that does not fit 63 bits. For sizes that outside bytes claim; both at least 0.
inline std::optional<int64_t> checked_product(int64_t a, int64_t b) {
  int64_t out = 0;
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

}  // namespace quern
