// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace quern {

/// Little-endian reading of outside bytes. Every read is checked against what is left; nothing overflows.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  template <typename T>
    requires std::is_arithmetic_v<T>
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

  /// A string behind its length in 64 bits.
  std::optional<std::string_view> read_string() {
    const auto n = read<uint64_t>();
    if (!n) return std::nullopt;
    const auto piece = take(*n);
    if (!piece) return std::nullopt;
    return std::string_view(reinterpret_cast<const char*>(piece->data()), piece->size());
  }

 private:
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

}  // namespace quern
